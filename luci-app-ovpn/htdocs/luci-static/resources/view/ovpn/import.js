// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require view';
'require dom';
'require rpc';
'require uci';
'require ui';
'require ovpn.api as api';
'require ovpn.parts as parts';
'require ovpn.profile as profile';
'require ovpn.validate as validate';

/* KiB of a text as JSON, in which each end of a line is two bytes: uhttpd reads 64 KiB of a call (ubus.c) and takes no more.
   A file with its certificates has some 10 KiB. */
const MAX_TEXT = 60;
/* IFNAMSIZ of Linux without its end. */
const MAX_NAME = 15;
/* No text has NUL, or other controls than those of lines and pages. */
const BINARY = /[\0-\x08\x0e-\x1f]/;

/* Which protocols netifd has programs for. */
const callHandlers = rpc.declare({ object: 'network', method: 'get_proto_handlers', expect: { '': {} } });

function tooBig(text) {
	return new Blob([ JSON.stringify(text) ]).size > MAX_TEXT * 1024;
}

/* A line of the form; `id` is that of the field it names. */
function row(title, node, hint, id) {
	return E('div', { 'class': 'cbi-value' }, [
		E(id ? 'label' : 'div', { 'class': 'cbi-value-title', 'for': id }, [ title ]),
		E('div', { 'class': 'cbi-value-field' }, [
			node,
			hint ? E('div', { 'class': 'cbi-value-description' }, [ hint ]) : ''
		])
	]);
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return Promise.all([
			uci.load('network'),
			L.resolveDefault(uci.load('openvpn'), null),
			L.resolveDefault(callHandlers(), null),
			api.status()
		]);
	},

	render([ , , handlers, status ]) {
		/* Some releases have OpenVPN as a protocol of netifd, others have a list of instances. */
		this.asInterface = !handlers || handlers.openvpn != null;
		this.filename = null;
		this.text = E('textarea', {
			'id': 'ovpn-text', 'spellcheck': 'false', 'autocomplete': 'off', 'aria-describedby': 'ovpn-wrong',
			'aria-label': _('Text of an .ovpn file'),
			'placeholder': _('Drop an .ovpn file here, or paste its text')
		});
		this.file = E('input', {
			'type': 'file', 'id': 'ovpn-file', 'accept': '.ovpn,.conf', 'aria-label': _('An .ovpn file'),
			'change': () => this.handleFile(this.file.files[0])
		});
		this.wrong = E('div', { 'id': 'ovpn-wrong', 'class': 'ovpn-error', 'role': 'alert' });
		this.preview = E('div', { 'id': 'ovpn-import-preview', 'role': 'status' });

		const drop = E('div', {
			'class': 'ovpn-drop',
			'dragover': (ev) => { ev.preventDefault(); drop.classList.add('ovpn-over'); },
			'dragleave': () => drop.classList.remove('ovpn-over'),
			'drop': (ev) => {
				drop.classList.remove('ovpn-over');

				if (ev.dataTransfer.files.length) {
					ev.preventDefault();
					this.handleFile(ev.dataTransfer.files[0]);
				}
			}
		}, [
			this.text,
			this.wrong,
			E('div', { 'class': 'ovpn-row' }, [
				this.file,
				E('button', {
					'class': 'btn cbi-button cbi-button-action important', 'id': 'ovpn-check',
					'click': ui.createHandlerFn(this, 'handleCheck')
				}, [ _('Check') ])
			])
		]);

		return E('div', [
			parts.style(),
			E('h2', [ _('Import an OpenVPN file') ]),
			E('p', [ _('Makes a tunnel from a client’s file. It is checked first; nothing is written until you say so.') ]),
			status ? '' : parts.noDaemon(),
			drop,
			this.preview
		]);
	},

	/* Shows a preview, or what is wrong with the text, at the field. */
	say(wrong, ...nodes) {
		dom.content(this.wrong, wrong ? [ wrong ] : '');
		this.text.classList.toggle('ovpn-invalid', wrong != null);
		this.text.setAttribute('aria-invalid', String(wrong != null));
		dom.content(this.preview, nodes);
	},

	refuse(text) {
		this.say(text);
	},

	handleFile(file) {
		if (!file)
			return Promise.resolve();

		const tooMuch = _('%s is too big: the router’s web server takes %d KiB at most.').format(file.name, MAX_TEXT);

		if (file.size > MAX_TEXT * 1024)
			return Promise.resolve(this.refuse(tooMuch));

		return file.arrayBuffer().then(bytes => {
			const text = profile.decode(bytes);

			if (BINARY.test(text))
				return this.refuse(_('%s is no text: an .ovpn file is one, unpacked.').format(file.name));

			if (tooBig(text))
				return this.refuse(tooMuch);

			this.text.value = text;
			this.filename = file.name;

			return this.handleCheck();
		}).catch(error => this.refuse(error.message));
	},

	handleCheck() {
		const text = this.text.value;

		if (!text.trim())
			return this.refuse(_('There is no text to import.'));

		if (tooBig(text))
			return this.refuse(_('The text is too big: the router’s web server takes %d KiB at most.').format(MAX_TEXT));

		if (BINARY.test(text))
			return this.refuse(_('The text has characters that are none.'));

		return api.lint(text)
			.then(verdict => this.show(text, profile.parse(text), verdict))
			.catch(error => this.refuse(error.message));
	},

	show(text, parsed, verdict) {
		const broken = verdict.verdict == 'refused';
		const taken = (name) => uci.get('network', name) != null || !this.asInterface && uci.get('openvpn', name) != null;
		const name = new ui.Textfield(profile.name(this.filename, taken), {
			id: 'ovpn-name',
			validate: (value) => {
				const valid = validate.section(value, MAX_NAME);

				return valid !== true ? valid
					: taken(value) ? _('The name %s is taken.').format(value) : true;
			}
		});
		/* ovpnd asks for a login that is not given, and OpenVPN could not: a router has no terminal. */
		const asked = (value) => value || this.made() == 'client' && !user.getValue() && !password.getValue() ? true
			: _('The file asks for a user and a password.');
		const user = new ui.Textfield('', { id: 'ovpn-user', validate: asked });
		const password = new ui.Textfield('', { id: 'ovpn-password', password: true, validate: asked });
		const fields = parsed.asksUser ? [ name, user, password ] : [ name ];
		const [ kind, words ] = verdict.verdict == 'kernel' ? [ 'success', _('The kernel can carry this tunnel.') ]
			: [ 'warning', _('The kernel cannot carry this tunnel; OpenVPN will do it itself, slower. The reasons stand below.') ];
		/* ovpnd's own client is first where it can have the text: its packets go through the kernel in any case. */
		const native = verdict.native;
		const stock = this.asInterface ? 'interface' : 'instance';
		const choice = E('div', { 'id': 'ovpn-make', 'role': 'radiogroup', 'aria-label': _('Connected by') }, [
			...native ? [ this.choose('client', native.possible, native.possible, _('ovpnd, always in the kernel')) ] : [],
			this.choose(stock, true, !native?.possible, this.asInterface ? _('OpenVPN, as an interface') : _('OpenVPN, as an instance')),
			native && !native.possible ? E('div', { 'class': 'cbi-value-description', 'id': 'ovpn-obstacles' }, [
				_('ovpnd itself cannot do: %s.').format(native.obstacles.join(', '))
			]) : ''
		]);

		this.failed = E('div', { 'class': 'ovpn-error', 'id': 'ovpn-failed', 'role': 'alert' });
		this.say(
			broken ? _('OpenVPN does not start with this file. The reasons stand below.') : null,
			broken ? '' : E('div', { 'class': 'alert-message %s ovpn-finding'.format(kind), 'id': 'ovpn-verdict' }, [ E('p', [ words ]) ]),
			...verdict.findings.map(finding => parts.banner(null, finding)),
			...parsed.files.map(([ directive, path ]) => parts.banner(null, {
				severity: 'warning',
				code: 'external-file',
				text: _('%s names the file %s, which is not in the text.').format(directive, path),
				remedy: _('Put it on the router, or take a file with everything inside.')
			})),
			E('div', { 'class': 'cbi-section' }, [
				E('h3', [ _('Preview') ]),
				row(_('Name of the tunnel'), name.render(), _('Its files are in %s and have this name.').format('/etc/ovpn'), 'widget.ovpn-name'),
				row(_('Connected by'), choice, null, null),
				row(_('Servers'), E('div', { 'id': 'ovpn-remotes' }, [ verdict.remotes.join(', ') || '–' ])),
				row(_('In the text'), E('div', { 'id': 'ovpn-inline' }, [ verdict.inline.join(', ') || '–' ])),
				...(parsed.asksUser ? [
					row(_('User'), user.render(), native?.possible ? _('Left empty with the password, the overview asks for both at each start.') : null, 'widget.ovpn-user'),
					row(_('Password'), password.render(), _('Goes into a file that root alone can read, not into the configuration.'), 'widget.ovpn-password')
				] : []),
				E('pre', { 'class': 'ovpn-preview', 'tabindex': 0, 'aria-label': _('Preview') }, [ parsed.preview ]),
				this.failed,
				E('div', { 'class': 'cbi-page-actions' }, [
					E('button', {
						'class': 'btn cbi-button cbi-button-apply important', 'id': 'ovpn-create',
						'disabled': broken || !L.hasViewPermission() || null,
						'click': ui.createHandlerFn(this, () => this.handleCreate(text, fields))
					}, [ _('Create the tunnel') ])
				])
			])
		);
	},

	/* One of the ways to have a tunnel. */
	choose(value, possible, chosen, words) {
		return E('label', { 'class': 'ovpn-choice' }, [
			E('input', { 'type': 'radio', 'name': 'ovpn-make', 'value': value, 'checked': chosen ? '' : null, 'disabled': possible ? null : '' }),
			' ', words
		]);
	},

	/* The chosen way to have it. */
	made() {
		return document.querySelector('#ovpn-make input:checked')?.value;
	},

	/* `fields` are the name, and user and password where the file asks for them. ovpnd writes everything, the section
	   included: this session needs no right to write a configuration. */
	handleCreate(text, fields) {
		fields.forEach(field => field.triggerValidation());

		if (!fields.every(field => field.isValid()))
			return;

		const [ name, ...login ] = fields.map(field => field.getValue());

		return api.profileImport(name, text, this.made(), ...login)
			.then(() => { window.location.href = L.url('admin/vpn/ovpn/overview'); })
			.catch(error => dom.content(this.failed, [ _('The tunnel could not be made: %s').format(error.message) ]));
	}
});
