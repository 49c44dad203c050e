// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require form';
'require network';
'require uci';
'require ovpn.validate as validate';

/* Names of ciphers are OpenVPN's. */
const CIPHERS = [ 'aes-128-gcm', 'aes-192-gcm', 'aes-256-gcm', 'chacha20-poly1305' ];

/* Errors that the protocol's handler tells netifd. */
network.registerErrorCode('OVPND_MISSING', _('The daemon ovpnd does not answer.'));
network.registerErrorCode('SETUP_FAILED', _('The tunnel cannot be set up: VPN > OpenVPN (kernel) tells why.'));

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

	/* Peers go with their interface; nothing is left that a later one of its name would take over. */
	deleteConfiguration() {
		for (const peer of uci.sections('network', 'openvpn_dco_%s'.format(this.sid)))
			uci.remove('network', peer['.name']);
	},

	containsDevice(ifname) {
		return network.getIfnameOf(ifname) == this.getIfname();
	},

	renderFormOptions(s) {
		let o;

		o = s.taboption('general', form.ListValue, 'mode', _('Mode'),
			_('One peer, or many that are told apart by their addresses in the tunnel.'));
		o.value('p2p', _('point to point'));
		o.value('mp', _('multi-peer'));
		o.default = 'p2p';

		o = s.taboption('general', form.ListValue, 'transport', _('Transport'));
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
		o.datatype = 'range(1,65535)';
		o.placeholder = '1194';
		o.validate = function(section_id, value) {
			const taken = uci.sections('network', 'interface')
				.filter(net => net.proto == 'openvpn_dco' && net.disabled != '1' && net['.name'] != section_id);

			return validate.localPort(value, this.section.formvalue(section_id, 'transport'), taken);
		};

		o = s.taboption('general', form.DynamicList, 'addresses', _('Addresses'),
			_('Of this router in the tunnel, each with its prefix length, for instance 10.8.0.1/24.'));
		o.validate = function(section_id, value) {
			return validate.addresses(value, L.toArray(this.section.formvalue(section_id, 'addresses')));
		};

		o = s.taboption('general', form.ListValue, 'cipher', _('Cipher'),
			_('Both ends need the same one.'));
		o.value('auto', _('automatic (chacha20-poly1305)'));
		CIPHERS.forEach(cipher => o.value(cipher));
		o.default = 'auto';

		o = s.taboption('advanced', form.Value, 'mtu', _('MTU'),
			_('Largest packet in the tunnel, in bytes.'));
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
	}
});
