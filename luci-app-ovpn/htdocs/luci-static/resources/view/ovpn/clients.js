// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require view';
'require poll';
'require rpc';
'require uci';
'require ui';
'require dom';
'require ovpn.api as api';
'require ovpn.format as format';
'require ovpn.keys as keys';
'require ovpn.parts as parts';
'require ovpn.validate as validate';

/* The clients of this router's OpenVPN servers: those with a certificate, and those that are connected. */

/* Seconds between two looks. */
const INTERVAL = 5;
/* Certificates are files on flash: only every so many looks, and after each change. */
const LIST_EVERY = 12;
/* Sessions that are asked for at a time, the most of a call. */
const LIMIT = 500;
/* Days before the end of a certificate from which on it is pointed out. */
const SOON = 30;

const TITLES = [ _('Client'), _('State'), _('Address'), _('Traffic'), _('Certificate') ];

function servers() {
	return uci.sections('network', 'interface')
		.filter(net => net.proto == 'openvpn_dco' && (net.server || net.server_ipv6) && net.disabled != '1');
}

/* The end of a certificate in words, and whether it is to be pointed out. */
function expiry(certificate) {
	if (!certificate)
		return [ _('not of this router'), false ];

	if (certificate.revoked)
		return [ _('revoked'), true ];

	if (certificate.days_left < 0)
		return [ _('expired'), true ];

	return [ _('%d days left').format(certificate.days_left), certificate.days_left < SOON ];
}

/* One server: its nodes are made once and filled at every look. */
class Server {
	constructor(page, name) {
		this.page = page;
		this.name = name;
		this.rows = new Map();
		this.title = E('h3', [ name ]);
		this.facts = E('p', { 'class': 'ovpn-facts' });
		this.table = E('table', { 'class': 'table ovpn-peers ovpn-clients' });
		this.head = parts.head([ ...TITLES, '' ]);
		this.empty = E('p', { 'class': 'ovpn-empty' }, [ E('em', [ _('No clients.') ]) ]);
		this.list = E('div');
		this.said = E('div', { 'class': 'ovpn-said', 'role': 'status' });
		this.add = E('button', {
			'class': 'btn cbi-button cbi-button-add ovpn-add-client', 'aria-label': _('Add client to %s').format(name),
			'click': () => this.ask()
		}, [ _('Add client') ]);
		this.root = E('div', { 'class': 'cbi-section ovpn-tunnel', 'data-server': name }, [
			this.title, this.facts, this.said, this.list, E('div', { 'class': 'ovpn-row' }, [ this.add ])
		]);
	}

	show(sessions, listing) {
		const net = uci.get('network', this.name);
		const certificates = new Map(L.toArray(listing?.clients).map(one => [ one.name, one ]));
		const live = new Map();

		for (const session of sessions)
			live.set(session.name, [ ...live.get(session.name) ?? [], session ]);

		const names = [ ...new Set([ ...certificates.keys(), ...live.keys() ]) ].sort();

		this.add.disabled = !listing || !L.hasViewPermission();
		dom.content(this.facts, [
			E('span', [ E('strong', [ _('Port') ]), '%s %s'.format(L.toArray(net?.ovpnproto).join(', ') || 'udp', net?.port || '1194') ]),
			E('span', [ E('strong', [ _('Network') ]), [ net?.server, net?.server_ipv6 ].filter(Boolean).join(', ') ]),
			...listing ? [ [ _('Authority'), listing.ca ], [ _('Server') , listing.server ] ].map(([ title, one ]) => {
				const [ words, soon ] = expiry(one);

				return E('span', { 'class': soon ? 'ovpn-error' : '' }, [ E('strong', [ title ]), words ]);
			}) : [ E('span', [ _('Its certificates are not of an authority on this router: clients cannot be added here.') ]) ]
		]);

		if (!names.length)
			return this.place([ this.empty ]);

		this.rows = new Map(names.map(name => [ name, this.rows.get(name) ?? this.row(name) ]));
		names.forEach(name => this.rows.get(name).fill(certificates.get(name), live.get(name) ?? []));

		const rows = names.map(name => this.rows.get(name).root);

		if (rows.length + 1 != this.table.children.length || rows.some((row, index) => row != this.table.children[index + 1]))
			dom.content(this.table, [ this.head, ...rows ]);

		this.place([ this.table ]);
	}

	place(nodes) {
		if (this.list.firstChild != nodes[0])
			dom.content(this.list, nodes);
	}

	/* A client: { root, fill }. */
	row(name) {
		const cells = TITLES.map(title => parts.cell(title, ''));
		const button = (kind, words, label, work) => E('button', {
			'class': 'btn cbi-button %s'.format(kind), 'aria-label': label, 'click': ui.createHandlerFn(this, work)
		}, [ words ]);
		const kick = button('cbi-button-neutral ovpn-kick', _('Disconnect'), _('Disconnect %s').format(name), () => this.kick(name));
		const renew = button('cbi-button-action ovpn-renew', _('New profile'), _('New profile for %s').format(name), () => this.ask(name));
		const revoke = button('cbi-button-negative ovpn-revoke', _('Revoke'), _('Revoke %s').format(name), () => this.revoke(name));
		const root = E('tr', { 'class': 'tr', 'data-client': name }, [
			...cells, E('td', { 'class': 'td cbi-section-actions' }, E('div', [ kick, ' ', renew, ' ', revoke ]))
		]);

		return {
			root,
			fill: (certificate, sessions) => {
				const [ one ] = sessions;
				const [ words, soon ] = expiry(certificate);
				const sum = (key) => sessions.reduce((all, session) => all + session.vpn[key], 0);
				const addresses = sessions.flatMap(session => session.vpn_ips);

				[ [
					E('strong', [ name ])
				], one ? [
					parts.stateLabel(one.state, one.error),
					E('div', { 'class': 'ovpn-small' }, [ _('for %s').format(format.duration(one.since)) ])
				] : [ parts.label(certificate?.revoked ? _('revoked') : _('away'), '') ], [
					E('div', [ addresses.join(', ') || '–' ]),
					one ? E('div', { 'class': 'ovpn-small' }, [ parts.address(one.remote || '–') ]) : ''
				], one ? parts.pair(format.bytes(sum('rx_bytes')), format.bytes(sum('tx_bytes'))) : [ '–' ], [
					E('span', { 'class': soon ? 'ovpn-error' : '' }, [ words ])
				] ].forEach((nodes, index) => dom.content(cells[index], nodes));

				const may = L.hasViewPermission();

				kick.disabled = !may || !one;
				renew.disabled = !may || !certificate;
				revoke.disabled = !may || !certificate || certificate.revoked;
			}
		};
	}

	say(words, wrong) {
		dom.content(this.said, E('span', { 'class': wrong ? 'ovpn-error' : '' }, [ words ]));
	}

	/* Does something, and looks at what came of it. */
	work(call, words) {
		return call.then(() => this.say(words)).catch(error => this.say(error.message, true)).then(() => {
			this.page.looks = 0;

			return this.page.look();
		});
	}

	kick(name) {
		return this.work(api.disconnect(this.name, name), _('%s was disconnected; it may come back.').format(name));
	}

	revoke(name) {
		if (!window.confirm(_('Revoke the certificate of %s? It is disconnected at once, and its profile is of no use any more.').format(name)))
			return Promise.resolve();

		return this.work(api.caRevoke(this.name, name), _('%s was revoked.').format(name));
	}

	/* The dialog from a name to a profile. `known` is a client that gets a new one. */
	ask(known) {
		const listing = this.page.listings.get(this.name);
		const old = L.toArray(listing?.clients).find(one => one.name == known);
		const renew = old != null && !old.revoked && old.days_left >= 0;
		const name = new ui.Textfield(known ?? '', {
			id: 'ovpn-client-name', optional: false,
			validate: (value) => {
				const other = !known && L.toArray(listing?.clients).find(one => one.name == value && !one.revoked);

				return other ? _('There is a client %s already.').format(value) : validate.client(value);
			}
		});
		const remote = new ui.Textfield(this.page.address ?? '', {
			id: 'ovpn-client-remote', optional: false, validate: (value) => validate.remoteHost(value)
		});
		const failed = E('div', { 'class': 'ovpn-error', 'id': 'ovpn-client-failed', 'role': 'alert' });
		const field = (title, node, hint, id) => E('div', { 'class': 'cbi-value' }, [
			E('label', { 'class': 'cbi-value-title', 'for': id }, [ title ]),
			E('div', { 'class': 'cbi-value-field' }, [ node, E('div', { 'class': 'cbi-value-description' }, [ hint ]) ])
		]);
		const make = () => {
			const fields = known ? [ remote ] : [ name, remote ];

			fields.forEach(one => one.triggerValidation());

			if (!fields.every(one => one.isValid()))
				return Promise.resolve();

			const client = known ?? name.getValue();

			this.page.address = remote.getValue();

			return api.profileExport(this.name, client, remote.getValue(), renew).then(({ file, text }) => {
				keys.download(file, text);
				ui.hideModal();

				return this.work(Promise.resolve(), _('The profile of %s was handed to the browser as %s. It is nowhere else: a lost one is made anew.').format(client, file));
			}).catch(error => dom.content(failed, [ error.message ]));
		};

		/* LuCI takes a title for HTML. */
		ui.showModal(known ? _('New profile for %h').format(known) : _('Add client to %h').format(this.name), [
			E('p', [ _('The profile is a file for OpenVPN on the client’s device, with its key in it. Router and browser keep no copy: whoever has the file can connect.') ]),
			renew ? E('p', [ _('The certificate that %s has now is revoked.').format(known) ]) : '',
			known ? '' : field(_('Name'), name.render(), _('For instance, whose device it is.'), 'widget.ovpn-client-name'),
			field(_('Address of this router'), remote.render(), _('The name or address at which clients find it from outside.'), 'widget.ovpn-client-remote'),
			failed,
			E('div', { 'class': 'right button-row' }, [
				E('button', { 'class': 'btn cbi-button', 'click': ui.hideModal }, [ _('Dismiss') ]), ' ',
				E('button', {
					'class': 'btn cbi-button cbi-button-positive important', 'id': 'ovpn-client-make',
					'click': ui.createHandlerFn(this, make)
				}, [ _('Make and download') ])
			])
		]);
	}
}

/* Not by LuCI's class `network`, which loads the files of every protocol, those of ours among them. */
const callDump = rpc.declare({ object: 'network.interface', method: 'dump', expect: { interface: [] } });

/* An address at which the world may find this router: that of its first way there. */
function ownAddress() {
	const ways = nets => nets.filter(net => net.proto != 'openvpn_dco' && L.toArray(net.route).some(route => route.target == '0.0.0.0' && route.mask == 0));

	return L.resolveDefault(callDump(), []).then(nets =>
		ways(nets).sort((a, b) => a.metric - b.metric)[0]?.['ipv4-address']?.[0]?.address ?? null);
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		this.looks = 0;
		this.listings = new Map();
		this.servers = new Map();
		this.list = E('div', { 'id': 'ovpn-servers' });

		return Promise.all([ uci.load('network'), ownAddress() ]).then(([ , address ]) => {
			this.address = address;

			return this.look();
		});
	},

	look() {
		const anew = this.looks++ % LIST_EVERY == 0;
		const names = servers().map(net => net['.name']);

		return Promise.all(names.map(name => Promise.all([
			api.peers(name, 0, LIMIT),
			anew ? api.caList(name) : this.listings.get(name)
		]))).then(answers => {
			names.forEach((name, index) => {
				const [ peers, listing ] = answers[index];

				this.listings.set(name, listing);

				if (!this.servers.has(name))
					this.servers.set(name, new Server(this, name));

				this.servers.get(name).show(L.toArray(peers?.peers), listing);
			});

			const roots = names.map(name => this.servers.get(name).root);

			if (!roots.length)
				dom.content(this.list, E('p', { 'class': 'ovpn-empty' }, [
					E('em', [ _('There is no server.') ]), ' ',
					E('a', { 'href': L.url('admin/network/network') }, [ _('Add an interface of the protocol “OpenVPN in the kernel”') ])
				]));
			else if (roots.length != this.list.children.length || roots.some((root, index) => root != this.list.children[index]))
				dom.content(this.list, roots);
		});
	},

	render() {
		poll.add(() => this.look(), INTERVAL);

		return E('div', { 'class': 'ovpn-page' }, [
			parts.style(),
			E('h2', [ _('Clients of this router’s servers') ]),
			this.list
		]);
	}
});
