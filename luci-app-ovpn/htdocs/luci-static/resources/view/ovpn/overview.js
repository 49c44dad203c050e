// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require view';
'require poll';
'require ui';
'require dom';
'require ovpn.answer as answer';
'require ovpn.api as api';
'require ovpn.format as format';
'require ovpn.graph as graph';
'require ovpn.parts as parts';

/* Seconds between two looks. */
const INTERVAL = 5;
/* The diagnosis reads configuration files: only every so many looks. */
const DIAG_EVERY = 6;
/* Looks, a second apart, at a tunnel that was just told to do something; it has not begun at the first of them. */
const WATCHED = 10;
const BEGUN = 2;
/* States that last. */
const SETTLED = [ 'up', 'asking', 'error', 'stopped', 'disabled' ];
/* Peers of an interface on one page. */
const PAGE = 50;
/* Findings about a tunnel that its own answer has too. */
const TUNNELS = [ 'config', 'interface' ];

/* Worst first. */
const SEVERITIES = [ 'error', 'warning', 'info' ];

function driverLine(status) {
	const kernel = status.kernel;
	/* Why there is none, a banner says. */
	const driver = kernel.driver == 'none' ? _('not loaded')
		: '%s %s'.format(kernel.driver, kernel.module_version || '').trim();

	return E('p', { 'class': 'ovpn-facts', 'id': 'ovpn-driver' }, [
		fact(_('Driver'), driver),
		fact(_('Kernel'), kernel.release),
		fact('ovpnd', status.version),
		fact(_('Running for'), format.duration(status.uptime))
	]);
}

function fact(title, value) {
	return E('span', [ E('strong', [ title ]), value == null || value === '' ? '–' : String(value) ]);
}

function traffic(peer) {
	const rate = peer.vpn_rate;

	return [
		E('div', { 'class': 'ovpn-total' }, parts.pair(format.bytes(peer.vpn.rx_bytes), format.bytes(peer.vpn.tx_bytes))),
		E('div', { 'class': 'ovpn-small' }, parts.pair(format.rate(rate?.rx), format.rate(rate?.tx)))
	];
}

function engine(peer) {
	const name = peer.engine ?? _('not told');

	return [
		E('div', [ peer.cipher || '–' ]),
		peer.key_source == 'tls' && peer.key_age != null
			? E('div', { 'class': 'ovpn-small ovpn-key-age' }, [ _('key of %s').format(format.ago(peer.key_age)) ]) : '',
		E('div', { 'class': 'ovpn-small ovpn-engine' }, [
			peer.engine_async ? _('%s, asynchronous').format(name) : name
		])
	];
}

function drops(peer) {
	const reasons = Object.entries(peer.drops || {});
	const sum = reasons.reduce((all, [ , packets ]) => all + packets, 0);

	if (peer.drops == null)
		return '–';

	return E('div', { 'title': reasons.map(([ reason, packets ]) => '%s: %d'.format(format.drop(reason), packets)).join('\n') }, [
		E('div', { 'class': 'ovpn-dropped' }, [ String(sum) ]),
		...reasons.sort((a, b) => b[1] - a[1]).slice(0, 2).map(([ reason, packets ]) =>
			E('div', { 'class': 'ovpn-small' }, [ '%d %s'.format(packets, format.drop(reason)) ]))
	]);
}

function details(peer) {
	const counters = (one) => _('%s in %d packets received, %s in %d packets sent').format(
		format.bytes(one.rx_bytes), one.rx_packets, format.bytes(one.tx_bytes), one.tx_packets);
	const rows = [
		[ _('Interface'), peer.interface ],
		[ _('Peer'), peer.name ],
		[ _('Description'), peer.description ],
		[ _('Number'), peer.tx_id == null ? peer.peer_id : _('%d, %d to the other side').format(peer.peer_id, peer.tx_id) ],
		[ _('Endpoint'), peer.endpoint ],
		[ _('Other end'), peer.remote ],
		[ _('This end'), peer.local ],
		[ _('Addresses in the tunnel'), L.toArray(peer.vpn_ips).join(', ') ],
		[ _('Networks behind it'), L.toArray(peer.allowed_ips).join(', ') ],
		[ _('Keepalive'), peer.keepalive_interval == null ? null
			: _('every %d s, given up after %d s').format(peer.keepalive_interval, peer.keepalive_timeout) ],
		[ _('Connected for'), format.duration(peer.connected) ],
		[ _('Last seen'), format.ago(peer.last_seen) ],
		[ _('Lost connections'), peer.losses ],
		[ _('Last failure'), peer.error ],
		[ _('Not routed because'), peer.route_error ],
		[ _('Key'), peer.has_key ? peer.key_fingerprint || _('present') : _('none') ],
		[ _('Age of the key'), format.duration(peer.key_age) ],
		[ _('Cipher'), peer.cipher ],
		[ _('Crypto driver'), peer.engine ?? _('not told') ],
		[ _('In the tunnel'), counters(peer.vpn) ],
		[ _('Encrypted'), counters(peer.link) ],
		...Object.entries(peer.drops || {}).map(([ reason, packets ]) =>
			[ _('Dropped, %s').format(format.drop(reason)), packets ])
	];

	/* LuCI takes a title for HTML. */
	ui.showModal(_('Peer %h').format(peer.description || peer.name), [
		E('table', { 'class': 'table ovpn-details' }, rows.map(([ title, value ]) => E('tr', { 'class': 'tr' }, [
			E('td', { 'class': 'td left', 'width': '40%' }, [ title ]),
			E('td', { 'class': 'td left' }, [ value == null || value === '' ? '–' : String(value) ])
		]))),
		E('div', { 'class': 'right' }, [
			E('button', { 'class': 'btn cbi-button', 'click': ui.hideModal }, [ _('Dismiss') ])
		])
	]);
}

/* Gives a node its children, and leaves it alone when it has them: what is taken out, even for a moment, is no longer
   focused and does not know that it was pressed. */
function place(parent, nodes) {
	if (parent.children.length != nodes.length || nodes.some((node, index) => node !== parent.children[index]))
		parent.replaceChildren(...nodes);
}

const TITLES = [ _('Peer'), _('Other end'), _('State'), _('Traffic'), _('Dropped'), _('Crypto driver') ];

/* One peer: its nodes are made once, too. */
class Row {
	constructor(page, name) {
		this.cells = TITLES.map(title => parts.cell(title, ''));
		this.disconnect = E('button', {
			'class': 'btn cbi-button cbi-button-negative ovpn-disconnect',
			'title': _('A configured peer comes back by itself'),
			'aria-label': _('Disconnect %s').format(name),
			'click': ui.createHandlerFn(page, () => page.handleDisconnect(this.peer))
		}, [ _('Disconnect') ]);
		this.answer = E('button', {
			'class': 'btn cbi-button cbi-button-positive ovpn-answer',
			'aria-label': _('Answer the question of %s').format(name),
			'click': () => answer.ask(this.peer, () => page.watch(this.peer.interface))
		}, [ _('Answer') ]);
		this.root = E('tr', { 'class': 'tr', 'data-peer': name }, [
			...this.cells,
			E('td', { 'class': 'td nowrap cbi-section-actions' }, E('div', [
				this.answer, ' ',
				E('button', {
					'class': 'btn cbi-button',
					'aria-label': _('Details of %s').format(name),
					'click': () => details(this.peer)
				}, [ _('Details') ]), ' ',
				this.disconnect
			]))
		]);
		/* On a line of its own: a long sentence would squeeze the columns. */
		this.fault = E('tr', { 'class': 'tr ovpn-fault', 'data-fault-of': name }, [
			E('td', { 'class': 'td left ovpn-error', 'colspan': TITLES.length + 1 })
		]);
	}

	show(peer, state) {
		/* A failure of before is history once the peer is up, and stays in the details. */
		const error = [ peer.key_source == 'tls' && peer.state == 'up' ? peer.route_error : peer.error, ...L.toArray(peer.problems).map(problem => problem.text) ].filter(Boolean).join('\n');

		[ [
			E('div', [ E('strong', [ peer.description || peer.name ]) ]),
			E('div', { 'class': 'ovpn-small' }, [ peer.peer_id == null || peer.key_source == 'tls' ? peer.name : '%s, #%d'.format(peer.name, peer.peer_id) ]),
			E('div', { 'class': 'ovpn-small' }, [ L.toArray(peer.vpn_ips).join(', ') ])
		], [
			parts.address(peer.remote || peer.endpoint || '–')
		], [
			parts.stateLabel(state, error),
			peer.since == null ? '' : E('div', { 'class': 'ovpn-small ovpn-for' }, [ _('for %s').format(format.duration(peer.since)) ]),
			E('div', { 'class': 'ovpn-small ovpn-seen' }, [
				peer.last_seen == null ? format.ago(null) : _('heard %s').format(format.ago(peer.last_seen))
			]),
			peer.question ? E('div', { 'class': 'ovpn-question' }, [ peer.question.text ]) : ''
		], traffic(peer), drops(peer), engine(peer) ].forEach((nodes, index) => dom.content(this.cells[index], nodes));

		dom.content(this.fault.firstChild, [ error ]);
		this.peer = peer;
		this.nodes = error ? [ this.root, this.fault ] : [ this.root ];
		this.disconnect.disabled = peer.state != 'up' || !L.hasViewPermission();
		this.answer.hidden = !peer.question;
		this.answer.disabled = !L.hasViewPermission();
	}
}

/* One interface: its nodes are made once and filled at every look. */
class Tunnel {
	constructor(page, name) {
		this.page = page;
		this.name = name;
		this.offset = 0;
		this.rows = new Map();
		this.graph = graph.create(name);
		this.title = E('h3');
		this.facts = E('p', { 'class': 'ovpn-facts' });
		/* One button for both, which keeps the focus. */
		this.switch = E('button', { 'class': 'btn cbi-button ovpn-switch', 'click': () => this.handleSwitch() });
		this.problems = E('div');
		this.head = parts.head([ ...TITLES, '' ]);
		this.table = E('table', { 'class': 'table ovpn-peers' });
		this.turner = E('div');
		this.empty = E('p', { 'class': 'ovpn-empty' }, [ E('em', [ _('No peers.') ]) ]);
		this.peers = E('div');
		this.root = E('div', { 'class': 'cbi-section ovpn-tunnel', 'data-interface': name }, [
			this.title, E('div', { 'class': 'ovpn-row' }, [ this.switch ]), this.problems, this.facts, this.graph.root, this.peers
		]);
	}

	/* Starts or stops the tunnel; by netifd it is done a moment later, which a look shows. */
	handleSwitch() {
		if (this.busy)
			return;

		this.busy = true;
		(this.view.stopped ? api.start(this.name) : api.stop(this.name))
			.then(() => this.page.watch(this.name))
			.catch(error => ui.addNotification(null, E('p', [ error.message ]), 'error'))
			.finally(() => { this.busy = false; });
	}

	/* `driven` is whether there is a driver: without one, that is what is said, and once. */
	show(view, peers, now, driven) {
		this.view = view;
		this.graph.add(view.vpn, now);

		dom.content(this.title, [
			view.name,
			parts.stateLabel(view.state, view.error),
			parts.label(format.control(view.control), 'notice')
		]);

		dom.content(this.problems, [
			view.stopped ? E('p', { 'class': 'ovpn-stopped' }, [
				_('Stopped: %s.').format(view.stopped)
			]) : '',
			view.error && view.control != 'tls' && driven && !L.toArray(view.problems).length ? parts.banner(null, {
				severity: 'error',
				code: 'interface',
				text: view.error,
				remedy: _('ovpnd tries again by itself; the system log tells more.')
			}) : '',
			...parts.problems(view.problems),
			...parts.problems(view.warnings, 'warning')
		]);

		/* OpenVPN's own are not ours to stop. */
		this.switch.hidden = view.control == 'observed';
		this.switch.disabled = !L.hasViewPermission();
		this.switch.textContent = view.stopped ? _('Start') : _('Stop');
		this.switch.setAttribute('aria-label', (view.stopped ? _('Start %s') : _('Stop %s')).format(view.name));

		dom.content(this.facts, [
			fact(_('Peers'), _('%d of %d in the kernel').format(view.peers_up, view.peers)),
			fact(_('Addresses'), L.toArray(view.addresses).join(', ')),
			fact(_('Transport'), view.transport && view.local_port ? '%s %d'.format(view.transport, view.local_port) : view.transport),
			fact(_('MTU'), view.mtu),
			fact(_('Received'), format.bytes(view.vpn.rx_bytes)),
			fact(_('Sent'), format.bytes(view.vpn.tx_bytes))
		]);

		/* No answer, or one about a page that was turned meanwhile: what is there stays. */
		if (peers?.offset != this.offset)
			return;

		/* The page is gone with its peers: the next look begins with the first. */
		if (this.offset && this.offset >= peers.total) {
			this.offset = 0;
			return;
		}

		this.rows = new Map(peers.peers.map(peer => [ peer.name, this.rows.get(peer.name) ?? new Row(this.page, peer.name) ]));
		peers.peers.forEach(peer => this.rows.get(peer.name).show(peer, this.stateOf(peer)));
		place(this.table, [ this.head, ...Array.from(this.rows.values()).flatMap(row => row.nodes) ]);
		this.showPager(peers.total);
		place(this.peers, peers.total ? [ this.table, this.turner ] : [ this.empty ]);
	}

	/* The meaning of a peer's state for a user who waits for it. */
	stateOf(peer) {
		/* A client knows how far it is, and is up once the server has answered. */
		if (this.view.control == 'tls')
			return peer.state;

		if (this.view.state == 'error' && peer.state != 'disabled' && peer.state != 'error')
			return 'down';

		return peer.state == 'up' && !peer.link.rx_packets ? 'silent' : peer.state;
	}

	showPager(total) {
		const where = total <= PAGE ? '' : _('%d to %d of %d').format(this.offset + 1, Math.min(this.offset + PAGE, total), total);

		if (where == this.where)
			return;

		this.where = where;

		if (!where)
			return dom.content(this.turner, '');

		const turn = (by) => () => {
			this.offset = Math.max(0, this.offset + by);
			return this.page.look();
		};

		dom.content(this.turner, E('div', { 'class': 'ovpn-pager' }, [
			E('button', {
				'class': 'btn cbi-button', 'disabled': this.offset == 0 || null,
				'click': ui.createHandlerFn(this, turn(-PAGE))
			}, [ _('Previous') ]),
			where,
			E('button', {
				'class': 'btn cbi-button', 'disabled': this.offset + PAGE >= total || null,
				'click': ui.createHandlerFn(this, turn(PAGE))
			}, [ _('Next') ])
		]));
	}
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		this.looks = 0;
		this.subjects = [];
		this.tunnels = new Map();
		this.banners = E('div', { 'id': 'ovpn-findings' });
		this.driver = E('div');
		this.list = E('div', { 'id': 'ovpn-tunnels' });

		return this.fetch();
	},

	fetch() {
		const diag = this.looks++ % DIAG_EVERY ? this.subjects : api.diag();

		return Promise.all([ api.status(), api.interfaces(), diag ]).then(([ status, interfaces, subjects ]) => {
			this.subjects = subjects;

			const peers = (status ? interfaces : []).map(one => {
				const offset = this.tunnels.get(one.name)?.offset ?? 0;

				return api.peers(one.name, offset, PAGE).then(list => list && { ...list, offset });
			});

			return Promise.all(peers).then(lists => ({ status, interfaces, subjects, lists }));
		});
	},

	look() {
		return this.fetch().then(data => this.show(data));
	},

	/* Looks more often until a tunnel has done what it was told. Resolves after the first look. */
	watch(name, looks = 1) {
		return this.look().then(() => {
			const peers = [ ...this.tunnels.get(name)?.rows.values() ?? [] ];

			if (looks < WATCHED && (looks < BEGUN || peers.some(row => !SETTLED.includes(row.peer.state))))
				window.setTimeout(() => this.watch(name, looks + 1), 1000);
		});
	},

	show({ status, interfaces, subjects, lists }) {
		const now = Date.now();

		if (!status) {
			/* The next answer brings a diagnosis with it. */
			this.looks = 0;
			dom.content(this.banners, parts.noDaemon());
			/* An old state is not shown as if it were the present one. */
			dom.content(this.driver, '');
			dom.content(this.list, '');
			return;
		}

		const known = new Set(interfaces.map(one => one.name));
		/* Faults of a tunnel's configuration stand with that tunnel. */
		const found = subjects.flatMap(subject => L.toArray(subject.findings)
			.filter(finding => !(TUNNELS.includes(finding.code) && known.has(subject.name)))
			.map(finding => [ subject.kind == 'system' ? null : subject.name, finding ]));

		dom.content(this.banners, [
			...parts.problems(status.problems),
			...SEVERITIES.flatMap(severity => found.filter(([ , finding ]) => finding.severity == severity))
				.map(([ subject, finding ]) => parts.banner(subject, finding))
		]);
		dom.content(this.driver, driverLine(status));

		for (const name of this.tunnels.keys())
			if (!known.has(name))
				this.tunnels.delete(name);

		interfaces.forEach((one, index) => {
			if (!this.tunnels.has(one.name))
				this.tunnels.set(one.name, new Tunnel(this, one.name));

			this.tunnels.get(one.name).show(one, lists[index], now, status.kernel.driver != 'none');
		});

		if (this.tunnels.size)
			return place(this.list, Array.from(this.tunnels.values(), tunnel => tunnel.root));

		dom.content(this.list,
			E('div', { 'class': 'ovpn-empty' }, [
				E('p', [ E('em', [ _('There are no tunnels.') ]) ]),
				E('p', [ E('a', { 'href': L.url('admin/network/network') }, [
					_('Add an interface of the protocol “OpenVPN in the kernel”')
				]) ]),
				E('p', [ E('a', { 'href': L.url('admin/vpn/ovpn/import') }, [ _('Import an .ovpn file') ]) ])
			]));
	},

	handleDisconnect(peer) {
		return api.disconnect(peer.interface, peer.name)
			.then(() => this.look())
			.catch(error => ui.addNotification(null, E('p', [ error.message ]), 'error'));
	},

	render(data) {
		this.show(data);
		poll.add(() => this.look(), INTERVAL);

		return E('div', { 'class': 'ovpn-page' }, [
			parts.style(),
			E('h2', [ _('OpenVPN tunnels') ]),
			this.driver,
			this.banners,
			this.list
		]);
	}
});
