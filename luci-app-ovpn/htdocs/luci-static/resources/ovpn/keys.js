// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require dom';
'require ui';
'require ovpn.api as api';

/* Key files of peers: made by the router, or in the browser for both ends, or uploaded, each when the dialog is saved. A
   key goes to the router and never comes back: the answer is a fingerprint. */

const BEGIN = '-----BEGIN OpenVPN Static key V1-----';
const END = '-----END OpenVPN Static key V1-----';
const BYTES = 256;
/* Key files have about 640 bytes. */
const MAX_FILE = 16384;
/* Longest name of a key file that ovpnd takes. */
const MAX_NAME = 64;

/* A new key in the form of OpenVPN's key files. */
function makeKey() {
	const hex = Array.from(crypto.getRandomValues(new Uint8Array(BYTES)), byte => '%02x'.format(byte)).join('');

	return [ BEGIN, ...hex.match(/.{32}/g), END, '' ].join('\n');
}

/* The fault of a key file's text, without repeating any of it; null when it has none. */
function fault(text) {
	const lines = text.split(/\r?\n/).map(line => line.trim());
	const begin = lines.indexOf(BEGIN);
	const end = lines.indexOf(END);

	if (begin < 0)
		return _('This is no OpenVPN static key: its first line is missing.');

	if (end < begin)
		return _('The key is cut off: its last line is missing.');

	const hex = lines.slice(begin + 1, end).join('');

	if (!/^[0-9a-fA-F]*$/.test(hex))
		return _('The key has characters that are no hexadecimal digits.');

	if (hex.length != 2 * BYTES)
		return _('The key has %d bytes, %d are needed.').format(hex.length / 2, BYTES);

	return null;
}

function download(name, text) {
	const url = URL.createObjectURL(new Blob([ text ], { type: 'text/plain' }));
	const link = E('a', { 'href': url, 'download': name });

	document.body.appendChild(link);
	link.click();
	link.remove();
	URL.revokeObjectURL(url);
}

function option(name, value) {
	return value == null || value === '' ? [] : [ "\toption %s '%s'".format(name, value) ];
}

function list(name, values) {
	return L.toArray(values).map(value => "\tlist %s '%s'".format(name, value));
}

/* The peer as the other end configures it: what is ours becomes its peer's. `net` and `peer` are UCI sections. */
function otherEnd(net, peer, key) {
	const name = peer['.name'];
	const bare = (address) => address.split('/')[0];
	const file = '/etc/ovpn/%s.key'.format(name);
	const prefix = (address, own) => {
		const with_length = L.toArray(net.addresses).find(ours => ours.includes(':') == address.includes(':'));

		return '%s/%s'.format(own, with_length?.split('/')[1] ?? (address.includes(':') ? '64' : '24'));
	};

	return [
		'# ' + _('For /etc/config/network of the other end of %s. Fill in what stands in angle brackets.').format(name),
		"config interface '%s'".format(net['.name']),
		...option('proto', 'openvpn_dco'),
		...option('mode', 'p2p'),
		...option('transport', net.transport || 'udp'),
		...option('local_port', peer.endpoint_port || '1194'),
		...list('addresses', L.toArray(peer.vpn_ip).map(address => prefix(address, bare(address)))),
		...option('cipher', net.cipher || 'auto'),
		...option('mtu', net.mtu),
		'',
		"config openvpn_dco_%s '%s'".format(net['.name'], 'router'),
		...option('peer_id', peer.peer_id),
		...option('endpoint_host', '<%s>'.format(_('address of this router'))),
		...option('endpoint_port', net.local_port || '1194'),
		...list('vpn_ip', L.toArray(net.addresses).map(bare)),
		...option('key_file', file),
		...option('key_direction', peer.key_direction == '1' ? '0' : '1'),
		...option('insecure_static_key', peer.insecure_static_key),
		...option('keepalive_interval', peer.keepalive_interval),
		...option('keepalive_timeout', peer.keepalive_timeout),
		'',
		...(key ? [
			'# ' + _('The key, for %s with mode 0600. Whoever has it reads the tunnel: delete this file when it is in its place.').format(file),
			...key.trimEnd().split('\n').map(line => '# ' + line)
		] : [
			'# ' + _('The key is not in here: copy %s of this router to %s there, with mode 0600.').format(peer.key_file || '?', file)
		]),
		''
	].join('\n');
}

/* The name of the key file of a peer; one that would be too long ends in a sum of itself. */
function keyFile(net, peer) {
	const name = '%s-%s'.format(net, peer);
	const ends = '.key';
	const sum = Array.from(name).reduce((all, letter) => Math.imul(all, 31) + letter.charCodeAt(0) >>> 0, 0);
	const tail = '-%08x'.format(sum);

	return (name.length + ends.length > MAX_NAME ? name.slice(0, MAX_NAME - tail.length - ends.length) + tail : name) + ends;
}

/* Directory of the files that ovpnd makes. */
const DIR = '/etc/ovpn/';

return baseclass.extend({
	fault,
	keyFile,
	otherEnd,
	download,

	/* Asks whether the files of a section go with it. ovpnd deletes them when no section names them any more: those that are
	   not its own stay. */
	ask(files) {
		const ours = [ ...new Set(files) ].filter(file => file?.startsWith(DIR)).map(file => file.slice(DIR.length));

		if (!ours.length || !window.confirm(_('Delete the files in %s as well, once the changes are applied? %s').format(DIR, ours.join(', '))))
			return Promise.resolve();

		return Promise.all(ours.map(file => api.keyDelete(file)))
			.catch(error => ui.addNotification(null, E('p', [ error.message ]), 'error'));
	},

	/* The panel of a peer: { root, save }. `name` is the file the key becomes; `taken(path)` is told of a new key file;
	   `sections()` gives the UCI sections of interface and peer as they are in the form. Nothing leaves the browser
	   before `save`. */
	panel(name, taken, sections) {
		/* The key that Save brings to the router: its text, or none for one that the router makes. */
		let pending = null;
		let key = null;
		const said = E('div', { 'class': 'ovpn-said', 'role': 'status' });
		const text = E('textarea', { 'class': 'ovpn-key-text', 'spellcheck': 'false', 'autocomplete': 'off',
			'aria-label': _('Text of a key file'), 'placeholder': _('Paste a key file here, or drop one') });
		const file = E('input', { 'type': 'file', 'class': 'ovpn-key-file', 'aria-label': _('A key file') });
		const overwrite = E('input', { 'type': 'checkbox', 'class': 'ovpn-key-overwrite' });

		const say = (words, wrong) => dom.content(said, E('span', { 'class': wrong ? 'ovpn-error' : '' }, words));

		const keep = (content, both) => {
			pending = { content };
			key = both ? content : null;
			text.value = '';
			file.value = '';
			taken(DIR + name);
			say([ content ? _('Save writes the key to %s.').format(DIR + name) : _('Save has the router make a key in %s.').format(DIR + name) ]);
		};

		const save = () => {
			if (!pending)
				return Promise.resolve();

			const { content } = pending;
			const call = content ? api.keyImport(name, content, overwrite.checked) : api.keyGenerate(name, overwrite.checked);

			return call.then(answer => {
				pending = null;
				say([ _('Written to %s.').format(answer.file), ' ', E('code', [ answer.key_fingerprint ]) ]);
			}).catch(error => {
				say([ error.message ], true);
				throw error;
			});
		};

		const upload = (content) => {
			const wrong = fault(content);

			return wrong ? say([ wrong ], true) : keep(content, false);
		};

		const take = (chosen) => {
			if (!chosen)
				return Promise.resolve();

			if (chosen.size > MAX_FILE)
				return Promise.resolve(say([ _('%s is too big for a key file.').format(chosen.name) ], true));

			return chosen.text().then(content => { text.value = content; });
		};

		text.addEventListener('drop', (ev) => {
			if (ev.dataTransfer.files.length) {
				ev.preventDefault();
				take(ev.dataTransfer.files[0]);
			}
		});
		file.addEventListener('change', () => take(file.files[0]));

		const button = (kind, title, words, work) => E('button', {
			'class': 'btn cbi-button cbi-button-action %s'.format(kind),
			'title': title,
			'disabled': !L.hasViewPermission() && kind != 'ovpn-key-export' || null,
			'click': ui.createHandlerFn(this, (ev) => { ev.preventDefault(); return work(); })
		}, [ words ]);

		const root = E('div', { 'class': 'ovpn-keys' }, [
			E('div', { 'class': 'ovpn-row' }, [
				button('ovpn-key-generate', _('The key stays on the router'), _('Generate on the router'), () => keep(null, false)),
				button('ovpn-key-both', _('Made in this browser, sent to the router, and put into the export'),
					_('Generate for both ends'), () => keep(makeKey(), true)),
				button('ovpn-key-export', _('A configuration for the other end'), _('Export for the other end'), () => {
					const { net, peer } = sections();
					download('%s-%s.conf'.format(net['.name'], peer['.name']), otherEnd(net, peer, key));
				})
			]),
			text,
			E('div', { 'class': 'ovpn-row' }, [
				file,
				button('ovpn-key-upload', _('Take this key'), _('Take the text'), () => upload(text.value)),
				E('label', [ overwrite, ' ', _('Replace a key that is there') ])
			]),
			said
		]);

		return { root, save };
	}
});
