// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require form';
'require network';
'require uci';
'require ovpn.client as client';
'require ovpn.keys as keys';
'require ovpn.parts as parts';
'require ovpn.peers as peers';
'require ovpn.server as server';
'require ovpn.users as users';
'require ovpn.validate as validate';

/* Names of ciphers are OpenVPN's. */
const CIPHERS = [ 'aes-128-gcm', 'aes-192-gcm', 'aes-256-gcm', 'chacha20-poly1305' ];

/* Errors that the protocol's handler tells netifd. */
network.registerErrorCode('OVPND_MISSING', _('The daemon ovpnd does not answer.'));
network.registerErrorCode('SETUP_FAILED', _('The tunnel cannot be set up: VPN > OpenVPN (kernel) tells why.'));

/* Once in a page, however often the dialog is opened. */
const STYLE = parts.style();

/* The kind of a section, by the options that ovpnd looks for; null for a new one. */
function kindOf(section_id) {
	const has = (...options) => options.some(option => uci.get('network', section_id, option) != null);

	return has('server', 'server_ipv6', 'tls_server') ? 'server' : has('client', 'tls_client') ? 'client'
		: has('mode', 'transport', 'local_port', 'addresses', 'cipher') ? 'static' : null;
}

/* LuCI leaves a field as it was found when it hides it, and goes on to count a wrong one at its tab: hidden ones are right, and are looked at
   again when the kind is another. */
function hideFaults(kind, options) {
	for (const option of options.filter(one => Object.hasOwn(one, 'validate'))) {
		const check = option.validate;

		option.validate = function(section_id, value) {
			return !this.isActive(section_id) || check.call(this, section_id, value);
		};
	}

	kind.onchange = function(ev, section_id) {
		options.filter(one => !one.isActive(section_id)).forEach(one => one.triggerValidation(section_id));
		this.map.checkDepends();
	};
}

return network.registerProtocol('openvpn_dco', {
	getI18n() {
		return _('OpenVPN in the kernel (ovpnd)');
	},

	getIfname() {
		return this._ubus('l3_device') || this.sid;
	},

	getPackageName() {
		return 'ovpnd';
	},

	isFloating() {
		return true;
	},

	isVirtual() {
		return true;
	},

	getDevices() {
		return null;
	},

	/* Peers go with their interface, and its files after a question; nothing is left that a later one of its name would
	   take over. */
	deleteConfiguration() {
		const sections = uci.sections('network', 'openvpn_dco_%s'.format(this.sid));
		const files = [ ...sections.map(peer => peer.key_file), ...client.FILES.map(option => uci.get('network', this.sid, option)) ];

		for (const peer of sections)
			uci.remove('network', peer['.name']);

		/* The files of an authority go together. */
		const own = Object.values(server.files(this.sid));

		return server.remove(this.sid).then(() => keys.ask(files.filter(file => !own.includes(file))));
	},

	containsDevice(ifname) {
		return network.getIfnameOf(ifname) == this.getIfname();
	},

	renderFormOptions(s) {
		let o;
		const bound = [];
		const only = (...kinds) => (option) => {
			bound.push(option);
			kinds.forEach(kind => option.depends('_kind', kind));
		};
		const isStatic = only('static');

		document.head.appendChild(STYLE);

		const kind = o = s.taboption('general', form.ListValue, '_kind', _('Kind'));
		o.value('client', _('client of an OpenVPN server'));
		o.value('static', _('static keys, for tests'));
		o.value('server', _('OpenVPN server'));
		o.default = 'client';
		o.rmempty = false;
		o.cfgvalue = kindOf;
		o.write = (section_id, value) => {
			if (kindOf(section_id) == value)
				return;

			uci.set('network', section_id, 'client', value == 'client' ? '1' : null);
			uci.set('network', section_id, 'tls_client', null);
			uci.set('network', section_id, 'tls_server', null);
		};
		o.remove = () => {};

		o = s.taboption('general', form.ListValue, 'mode', _('Mode'),
			_('One peer, or many that are told apart by their addresses in the tunnel.'));
		isStatic(o);
		o.value('p2p', _('point to point'));
		o.value('mp', _('multi-peer'));
		o.default = 'p2p';
		/* Always written: by it the section is known for one with static keys. */
		o.rmempty = false;

		o = s.taboption('general', form.ListValue, 'transport', _('Transport'));
		isStatic(o);
		o.value('udp', _('UDP over IPv4'));
		o.value('udp6', _('UDP over IPv6'));
		o.value('tcp', _('TCP over IPv4'));
		o.value('tcp6', _('TCP over IPv6'));
		o.default = 'udp';
		o.validate = function(section_id, value) {
			return validate.transport(value, this.section.formvalue(section_id, 'mode'));
		};

		o = s.taboption('general', form.Value, 'local_port', _('Local port'),
			_('The kernel chooses one when this is empty.'));
		isStatic(o);
		o.datatype = 'range(1,65535)';
		o.placeholder = '1194';
		o.validate = function(section_id, value) {
			const taken = uci.sections('network', 'interface')
				.filter(net => net.proto == 'openvpn_dco' && net.disabled != '1' && net['.name'] != section_id);

			return validate.localPort(value, this.section.formvalue(section_id, 'transport'), taken);
		};

		o = s.taboption('general', form.DynamicList, 'addresses', _('Addresses'),
			_('Of this router in the tunnel, each with its prefix length, for instance 10.8.0.1/24.'));
		isStatic(o);
		o.validate = function(section_id, value) {
			return validate.addresses(value, L.toArray(this.section.formvalue(section_id, 'addresses')));
		};

		o = s.taboption('general', form.ListValue, 'cipher', _('Cipher'),
			_('Both ends need the same one.'));
		isStatic(o);
		o.value('auto', _('automatic (chacha20-poly1305)'));
		CIPHERS.forEach(cipher => o.value(cipher));
		o.default = 'auto';

		server.options(s, only('server'));
		users.options(s, only('server'));
		client.options(s, only('client'), only('client', 'server'));

		o = s.taboption('general', form.Flag, 'killswitch', _('Kill switch'),
			_('Forwarded traffic of this interface’s zone has no other way while the tunnel is away.'));

		o = s.taboption('advanced', form.Value, 'mtu', _('MTU'),
			_('Largest packet in the tunnel, in bytes.'));
		isStatic(o);
		o.datatype = 'range(68,65451)';
		o.placeholder = '1416';

		o = s.taboption('advanced', form.Value, 'mssfix', _('TCP segment size'),
			_('In bytes; automatic is what fits the path.'));
		o.value('auto', _('automatic'));
		o.value('off', _('leave as it is'));
		o.default = 'auto';
		o.validate = (section_id, value) => validate.mssfix(value);

		o = s.taboption('advanced', form.Value, 'hwcrypto', _('Crypto driver'),
			_('Automatic takes an engine only where it is known to be faster than the processor.'));
		o.value('auto', _('automatic'));
		o.value('off', _('processor'));
		o.value('on', _('what the kernel prefers'));
		o.default = 'auto';
		o.validate = (section_id, value) => validate.hwcrypto(value);

		o = s.taboption('advanced', form.Value, 'fwmark', _('Firewall mark'),
			_('Of the encrypted packets; a number, also as 0x1f.'));
		o.validate = (section_id, value) => validate.mark(value);

		o = s.taboption('advanced', form.Flag, 'nohostroute', _('No host route'),
			_('Do not pin the way to each endpoint.'));

		peers.tab(s, isStatic);
		hideFaults(kind, bound);
	}
});
