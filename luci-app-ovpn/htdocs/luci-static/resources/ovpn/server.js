// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require dom';
'require form';
'require uci';
'require ui';
'require ovpn.api as api';
'require ovpn.validate as validate';

/* Options of an interface that is an OpenVPN server. Their names are OpenVPN's, with underscores. */

/* OpenVPN's registered port. */
const PORT = '1194';
/* The zone of the way to the world, as OpenWrt calls it. */
const WORLD = 'wan';

/* Lines of the list `push`, by the field that has them: a line to its value, and a value to its line. */
const PUSHES = {
	_routes: {
		read: (line) => {
			const [ word, network, mask, more ] = line.trim().split(/\s+/);

			return more != null ? null : word == 'route' ? validate.withLength(network, mask ?? '255.255.255.255')
				: word == 'route-ipv6' && mask == null ? network : null;
		},
		write: (value) => value.includes(':') ? 'route-ipv6 %s'.format(value) : 'route %s'.format(validate.withMask(value))
	},
	_dns: {
		read: (line) => line.match(/^\s*dhcp-option\s+DNS6?\s+(\S+)\s*$/)?.[1] ?? null,
		write: (value) => 'dhcp-option DNS %s'.format(value)
	},
	_redirect: {
		read: (line) => /^\s*redirect-gateway(\s|$)/.test(line) ? '1' : null,
		write: (value, section_id) => uci.get('network', section_id, 'server_ipv6') ? 'redirect-gateway def1 ipv6' : 'redirect-gateway def1'
	},
	_push: {
		read: (line) => Object.keys(PUSHES).some(name => name != '_push' && PUSHES[name].read(line) != null) ? null : line,
		write: (value) => value
	}
};

/* Files of an authority that ovpnd makes, by the options that name them. */
function files(name) {
	const file = (end) => '/etc/ovpn/%s/%s'.format(name, end);

	return { ca: file('ca.crt'), cert: file('server.crt'), key: file('server.key'), tls_crypt_v2: file('tls-crypt-v2.key'), crl_verify: file('crl.pem') };
}

function pushed(section_id) {
	return L.toArray(uci.get('network', section_id, 'push'));
}

/* Binds a field to its lines of the list. */
function push(option) {
	const { read, write } = PUSHES[option.option];
	const values = (section_id) => pushed(section_id).map(read).filter(value => value != null);
	const put = (section_id, lines) => {
		const old = pushed(section_id);
		const now = [ ...old.filter(line => read(line) == null), ...lines ];

		/* Those of another field stay where they are. */
		if (JSON.stringify(now.slice().sort()) != JSON.stringify(old.slice().sort()))
			uci.set('network', section_id, 'push', now.length ? now : null);
	};

	option.cfgvalue = (section_id) => option instanceof form.Flag ? values(section_id)[0] ?? '0' : values(section_id);
	option.write = (section_id, value) => put(section_id, L.toArray(value).map(one => write(one, section_id)));
	option.remove = (section_id) => put(section_id, []);
}

/* The button that makes a certificate authority, and the files it puts into the fields. Made when the dialog is saved. */
const Certificates = form.DummyValue.extend({
	cfgvalue(section_id) {
		const field = (name) => this.section.getUIElement(section_id, name);
		const said = E('div', { 'class': 'ovpn-said', 'role': 'status' });
		const button = E('button', {
			'class': 'btn cbi-button cbi-button-action ovpn-ca', 'disabled': !L.hasViewPermission() || null,
			'click': (ev) => {
				ev.preventDefault();
				this.pending = true;

				for (const [ name, file ] of Object.entries(files(section_id))) {
					field(name)?.setValue(file);
					field(name)?.triggerValidation();
				}

				dom.content(said, [ _('Save makes them in %s. The key of the authority stays on this router.').format('/etc/ovpn/%s/'.format(section_id)) ]);
			}
		}, [ _('Make certificates') ]);

		this.said = said;
		dom.content(said, [ uci.get('network', section_id, 'ca') ? _('There are certificates: see the fields below.')
			: _('A certificate authority, the server’s certificate and keys, all on this router.') ]);

		return E('div', { 'class': 'ovpn-keys' }, [ E('div', { 'class': 'ovpn-row' }, [ button ]), said ]);
	},

	parse(section_id) {
		if (!this.pending || this.section.formvalue(section_id, '_kind') != 'server')
			return Promise.resolve();

		/* One that is there already, of a dialog that was dismissed after a failure, does as well. */
		return api.caList(section_id).then(there => there ?? api.caInit(section_id, null)).then(() => {
			this.pending = false;
			dom.content(this.said, [ _('Made.') ]);
		}).catch(error => {
			dom.content(this.said, E('span', { 'class': 'ovpn-error' }, [ error.message ]));
			throw error;
		});
	},

	write() {},
	remove() {}
});

/* Whether a rule of the firewall lets packets to a port in from the world. */
function opens(rule, port, protos) {
	/* An option of blanks, or a list. */
	const words = (value) => [ value ?? [] ].flat().flatMap(text => text.split(/\s+/));
	const names = words(rule.proto ?? 'tcp udp');
	const ports = words(rule.dest_port);

	return rule.enabled != '0' && rule.target == 'ACCEPT' && [ WORLD, '*' ].includes(rule.src) && !rule.dest
		&& (names.some(name => [ 'all', '*', 'any' ].includes(name)) || protos.every(proto => names.includes(proto)))
		&& (!ports.length || ports.some(range => {
			const [ first, last ] = range.split(/[-:]/).map(Number);

			return +port >= first && +port <= (last ?? first);
		}));
}

/* The protocols of a server's option, a text of words or a list, as the firewall has them. */
function protosOf(value) {
	const words = [ value || 'udp' ].flat().flatMap(text => text.split(' '));

	return words.map(word => word.replace(/^(udp|tcp).*$/, '$1'));
}

/* The rule that this page makes for an interface. */
function ruleName(section_id) {
	return 'Allow-OpenVPN-%s'.format(section_id);
}

const Firewall = form.DummyValue.extend({
	port(section_id) {
		return this.section.formvalue(section_id, 'port') || PORT;
	},

	protos(section_id) {
		const list = protosOf(this.section.formvalue(section_id, 'ovpnproto'));

		return list.length > 1 ? list : list[0];
	},

	rules() {
		return uci.sections('firewall', 'rule');
	},

	cfgvalue(section_id) {
		const said = E('div', { 'class': 'ovpn-said', 'role': 'status' });
		const button = E('button', {
			'class': 'btn cbi-button cbi-button-action ovpn-open', 'disabled': !L.hasViewPermission() || null,
			'click': (ev) => {
				ev.preventDefault();
				this.pending = true;
				button.hidden = true;
				dom.content(said, [ _('Save adds the rule %s for the zone %s.').format(ruleName(section_id), WORLD) ]);
			}
		}, [ _('Open the port') ]);
		const root = E('div', { 'class': 'ovpn-keys' }, [ said, E('div', { 'class': 'ovpn-row' }, [ button ]) ]);

		button.hidden = true;
		L.resolveDefault(uci.load('firewall'), null).then(() => {
			const port = uci.get('network', section_id, 'port') || PORT;
			const open = this.rules().some(rule => opens(rule, port, protosOf(uci.get('network', section_id, 'ovpnproto'))));

			button.hidden = open;
			dom.content(said, [ open ? _('The firewall lets clients in.')
				: _('No rule of the firewall lets clients in from the zone %s.').format(WORLD) ]);
		});

		return root;
	},

	parse(section_id) {
		if (this.section.formvalue(section_id, '_kind') != 'server')
			return Promise.resolve();

		const [ port, proto ] = [ this.port(section_id), this.protos(section_id) ];
		const own = this.rules().find(rule => rule.name == ruleName(section_id));

		if (own) {
			/* It follows the port. */
			for (const [ option, value ] of [ [ 'dest_port', port ], [ 'proto', proto ] ])
				if (String(own[option]) != String(value))
					uci.set('firewall', own['.name'], option, value);
		}
		else if (this.pending) {
			const id = uci.add('firewall', 'rule', 'ovpn_%s'.format(section_id));
			const options = { name: ruleName(section_id), src: WORLD, proto, dest_port: port, target: 'ACCEPT' };

			for (const [ option, value ] of Object.entries(options))
				uci.set('firewall', id, option, value);
		}

		this.pending = false;

		return Promise.resolve();
	},

	write() {},
	remove() {}
});

return baseclass.extend({
	PUSHES,
	files,
	opens,

	/* Adds them to the section `s` of the dialog. `isServer` binds an option to servers. */
	options(s, isServer) {
		const add = (tab, Type, name, ...words) => {
			const o = s.taboption(tab, Type, name, ...words);

			isServer(o);

			return o;
		};
		let o;

		o = add('general', form.Value, 'server', _('Network of the clients'),
			_('Their addresses come from it; the first one is this router’s.'));
		o.placeholder = '10.8.0.0/24';
		o.validate = function(section_id, value) {
			return !value && !this.section.formvalue(section_id, 'server_ipv6')
				? _('A server needs a network for its clients, for instance 10.8.0.0/24.') : validate.pool(value);
		};

		o = add('general', form.Value, 'server_ipv6', _('IPv6 network of the clients'));
		o.placeholder = 'fd00:8::/64';
		o.validate = (section_id, value) => validate.pool6(value);

		o = add('general', form.ListValue, 'ovpnproto', _('Protocol'));
		o.value('', _('UDP over IPv4'));
		o.value('udp6', _('UDP over IPv6 and IPv4'));
		o.value('tcp', _('TCP over IPv4'));
		o.value('tcp6', _('TCP over IPv6 and IPv4'));
		o.value('udp tcp', _('UDP and TCP over IPv4'));
		o.value('udp6 tcp6', _('UDP and TCP over IPv6 and IPv4'));
		o.cfgvalue = (section_id) => L.toArray(uci.get('network', section_id, 'ovpnproto')).join(' ');
		o.write = (section_id, value) => {
			const list = value.split(' ');

			uci.set('network', section_id, 'ovpnproto', list.length > 1 ? list : value);
		};

		o = add('general', form.Value, 'port', _('Port'));
		o.datatype = 'range(1,65535)';
		o.placeholder = PORT;

		add('general', Certificates, '_certificates', _('Certificates'));
		add('general', Firewall, '_firewall', _('Firewall'));

		o = add('general', form.DynamicList, '_routes', _('Networks for clients'),
			_('Clients reach these through the tunnel, for instance 192.168.1.0/24.'));
		o.validate = (section_id, value) => validate.network(value);
		push(o);

		o = add('general', form.DynamicList, '_dns', _('DNS servers for clients'));
		o.validate = (section_id, value) => validate.address(value);
		push(o);

		o = add('general', form.Flag, '_redirect', _('All traffic through this router'),
			_('Clients reach the internet through the tunnel.'));
		push(o);

		o = add('advanced', form.Value, 'max_clients', _('Most clients at a time'));
		o.datatype = 'range(1,65534)';
		o.placeholder = '1024';

		add('advanced', form.Flag, 'duplicate_cn', _('One certificate for several devices'));
		add('advanced', form.Flag, 'ccd_exclusive', _('Only clients with a section'),
			_('Of /etc/config/network: others are refused.'));

		o = add('advanced', form.DynamicList, '_push', _('More options for clients'),
			_('As OpenVPN writes them, for instance: dhcp-option DOMAIN lan.'));
		push(o);
	},

	/* Deletes, with an interface, its authority after a question, and its rule of the firewall. */
	remove(section_id) {
		const made = Object.values(files(section_id)).includes(uci.get('network', section_id, 'ca'));
		const authority = made && window.confirm(_('Delete the certificate authority of %s as well, once the changes are applied? Profiles of its clients are of no use any more.').format(section_id))
			? api.caDelete(section_id).catch(error => ui.addNotification(null, E('p', [ error.message ]), 'error')) : null;

		return Promise.all([ authority, L.resolveDefault(uci.load('firewall'), null) ]).then(() => {
			for (const rule of uci.sections('firewall', 'rule'))
				if (rule.name == ruleName(section_id))
					uci.remove('firewall', rule['.name']);
		});
	}
});
