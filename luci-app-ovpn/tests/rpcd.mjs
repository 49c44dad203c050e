// SPDX-License-Identifier: GPL-2.0-only
// The layers between a page and the bus on a router: uhttpd's JSON-RPC, rpcd's sessions with their access lists, and
// its objects `uci` and `file`. ovpnd is a real one, on a real broker, in the guest.

import fs from 'node:fs';
import path from 'node:path';
import * as uci from './uci.mjs';

/* Status of a call, as in ubusmsg.h. */
const OK = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 4, PERMISSION_DENIED = 6;
/* JSON-RPC codes of uhttpd-mod-ubus. */
const RPC_OBJECT = -32000, RPC_ACCESS = -32002, RPC_METHOD = -32601;

/* What LuCI's own list (luci-base.json) gives everyone who has logged in. */
const BASE = {
	read: {
		file: { '/': [ 'list' ], '/*': [ 'list' ] },
		ubus: {
			'file': [ 'list' ], 'luci': [ 'getFeatures' ], 'uci': [ 'changes', 'get' ],
			'luci-rpc': [ 'getBoardJSON', 'getHostHints', 'getNetworkDevices', 'getWirelessDevices' ],
			'network': [ 'get_proto_handlers' ], 'network.device': [ 'status' ], 'network.interface': [ 'dump' ]
		},
		uci: [ 'firewall', 'luci', 'network', 'system', 'wireless' ]
	},
	write: {
		ubus: { 'file': [ 'remove' ], 'uci': [ 'add', 'apply', 'confirm', 'delete', 'order', 'rename', 'set', 'revert' ] }
	}
};

/* Rights that the access lists of LuCI's network pages grant besides. */
const NETWORK = {
	read: { file: { '/etc/iproute2/rt_tables': [ 'read' ] }, ubus: { file: [ 'read' ] }, uci: [ 'dhcp' ] },
	write: { uci: [ 'dhcp', 'firewall', 'network', 'wireless' ] }
};

/* Answers of objects that no test is about. */
const EMPTY = {
	'luci.getFeatures': {}, 'network.interface.dump': { interface: [] }, 'network.device.status': {},
	'network.get_proto_handlers': { openvpn: { no_device: true }, openvpn_dco: { no_device: true }, static: {} },
	'luci-rpc.getBoardJSON': {}, 'luci-rpc.getHostHints': {}, 'luci-rpc.getNetworkDevices': {}, 'luci-rpc.getWirelessDevices': {}
};

/* fnmatch of rpcd for the patterns in use. */
const matches = (pattern, file) => new RegExp(`^${pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*')}$`).test(file);

export class Rpcd {
	constructor(guest, app, { socket, session }) {
		Object.assign(this, { guest, socket, session });
		this.forget();

		const dir = path.join(app, 'root/usr/share/rpcd/acl.d');

		this.lists = fs.readdirSync(dir).flatMap(file => Object.values(JSON.parse(fs.readFileSync(path.join(dir, file), 'utf8'))));
		this.readOnly = false;
	}

	/** Whether the session may: scope is ubus, uci or file. */
	allows(scope, object, right) {
		return [ BASE, ...this.network ? [ NETWORK ] : [], ...this.lists ].some(list => [ 'read', 'write' ].some(kind => {
			const rights = (kind == 'write' && this.readOnly && list != BASE ? null : list[kind]?.[scope]) ?? {};

			if (Array.isArray(rights))
				return right == kind && rights.includes(object);

			return Object.entries(rights).some(([ pattern, names ]) => matches(pattern, object) && names.includes(right));
		}));
	}

	/** One JSON-RPC message to its answer. */
	async message({ id, method, params }) {
		const answer = (more) => ({ jsonrpc: '2.0', id, ...more });

		if (method == 'list')
			return answer({ result: {} });

		if (method != 'call' || !Array.isArray(params))
			return answer({ error: { code: RPC_METHOD, message: 'Method not found' } });

		const [ session, object, name, args ] = params;
		const call = { object, name, args: args ?? {}, at: Date.now() };

		this.calls.push(call);

		if (object == 'session' && name == 'access')
			return answer({ result: [ OK, { access: session == this.session } ] });

		if (session != this.session || !this.allows('ubus', object, name)) {
			call.denied = true;
			return answer({ error: { code: RPC_ACCESS, message: 'Access denied' } });
		}

		const [ status, data ] = await this.call(object, name, call.args, session);

		Object.assign(call, { status, data });

		// ovpnd's own "not found" comes with data: this is the bus, which does not find ovpnd.
		if (object == 'ovpnd' && status == NOT_FOUND && data == null)
			return answer({ error: { code: RPC_OBJECT, message: 'Object not found' } });

		return answer({ result: data == null ? [ status ] : [ status, data ] });
	}

	async call(object, name, args, session) {
		if (object == 'uci')
			return this.uci(name, args);

		if (object == 'file')
			return this.file(name, args);

		const still = this.answers[`${object}.${name}`] ?? EMPTY[`${object}.${name}`];

		if (still)
			return [ OK, still ];

		// Without a broker there is no object either.
		const { status, data } = await this.guest.ubus(object, name, { ...args, ubus_rpc_session: session }, this.socket)
			.catch(() => ({ status: NOT_FOUND, data: null }));

		return [ status, data ];
	}

	async config(name) {
		if (!this.staged[name]) {
			const { code, out } = await this.guest.run([ 'cat', `/etc/config/${name}` ]);

			// LuCI looks into configurations that this router does not have.
			const text = code === 0 ? out : BASE.read.uci.includes(name) ? '' : null;

			if (text == null)
				return null;

			this.committed[name] = uci.parse(text);
			this.staged[name] = uci.parse(text);
		}

		return this.staged[name];
	}

	async uci(name, args) {
		if (name == 'changes')
			return [ OK, { changes: this.changes() } ];

		if (name == 'apply' || name == 'confirm')
			return [ OK, await (name == 'apply' ? this.apply() : null) ];

		if (!this.allows('uci', args.config, name == 'get' ? 'read' : 'write'))
			return [ PERMISSION_DENIED ];

		const sections = await this.config(args.config);

		if (!sections)
			return [ NOT_FOUND ];

		const section = sections.find(one => one.name == args.section);

		switch (name) {
		case 'get':
			return [ OK, { values: uci.values(sections) } ];

		case 'add': {
			const made = { type: args.type, name: args.name ?? `cfg${String(sections.length).padStart(2, '0')}`, anonymous: !args.name, options: { ...args.values } };

			if (sections.some(one => one.name == made.name))
				return [ INVALID_ARGUMENT ];

			sections.push(made);
			return [ OK, { section: made.name } ];
		}
		case 'set':
			if (!section)
				return [ NOT_FOUND ];

			for (const [ key, value ] of Object.entries(args.values))
				if (Array.isArray(value) ? !value.length : value === '')
					delete section.options[key];
				else
					section.options[key] = Array.isArray(value) ? value.map(String) : String(value);

			return [ OK ];

		case 'delete':
			if (!section)
				return [ NOT_FOUND ];

			if (args.option || args.options)
				[ args.option, ...args.options ?? [] ].forEach(key => delete section.options[key]);
			else
				sections.splice(sections.indexOf(section), 1);

			return [ OK ];

		case 'order':
			return [ OK ];
		}

		return [ INVALID_ARGUMENT ];
	}

	changes() {
		return Object.fromEntries(Object.keys(this.staged)
			.map(name => [ name, uci.changes(this.committed[name], this.staged[name]) ])
			.filter(([ , list ]) => list.length));
	}

	/** Commits what is staged, and has ovpnd read it as procd's trigger does. */
	async apply() {
		for (const name of Object.keys(this.changes())) {
			await this.guest.write(`/etc/config/${name}`, uci.text(this.staged[name]), '0644');
			this.committed[name] = uci.parse(uci.text(this.staged[name]));
		}

		this.reloaded = await this.guest.ubus('ovpnd', 'reload', {}, this.socket);
	}

	/** Forgets what is not committed and what a case has set, and reads the files anew. */
	forget() {
		this.committed = {};
		this.staged = {};
		this.calls = [];
		// Whether the session has the rights of LuCI's pages about the network, as an administrator has, and answers in place
		// of the empty ones.
		this.network = true;
		this.answers = {};
	}

	async file(name, { path: file, data, mode }) {
		if (!this.allows('file', file, name))
			return [ PERMISSION_DENIED ];

		if (name == 'list') {
			const { code, out } = await this.guest.run([ 'find', file, '-mindepth', '1', '-maxdepth', '1', '-printf', '%f\n' ]);

			return code === 0 ? [ OK, { entries: out.split('\n').filter(Boolean).map(entry => ({ name: entry, type: 'file' })) } ] : [ NOT_FOUND ];
		}

		if (name == 'read')
			return [ NOT_FOUND ];

		await this.guest.write(file, data, (mode ?? 0o644).toString(8));

		return [ OK ];
	}
}
