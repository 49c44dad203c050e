// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require form';
'require uci';
'require ui';
'require ovpn.keys as keys';
'require ovpn.validate as validate';

/* The peers of an interface with static keys: a tab of its dialog. */

const PROTO = 'openvpn_dco';
/* UCI's words for it. */
const YES = /^(1|on|true|yes|enabled)$/;

/* The panel that makes, takes and exports keys, as an option of the form. */
const KeyPanel = form.DummyValue.extend({
	cfgvalue(section_id) {
		const section = this.section;
		const net = this.interface_name;
		const values = () => {
			const peer = Object.assign({}, uci.get('network', section_id), { '.name': section_id });

			for (const child of section.children)
				if (child.option.charAt(0) != '_') {
					const value = section.formvalue(section_id, child.option);

					if (value != null)
						peer[child.option] = value;
				}

			return { net: uci.get('network', net), peer };
		};

		this.panel = keys.panel(keys.keyFile(net, section_id), path => {
			section.getUIElement(section_id, 'key_file').setValue(path);
			section.getUIElement(section_id, 'key_file').triggerValidation();
		}, values);

		return this.panel.root;
	},

	/* The key goes to the router with the rest of the dialog, by Save. */
	parse() {
		return this.panel ? this.panel.save() : Promise.resolve();
	},

	write() {},
	remove() {}
});

/* The other peers that ovpnd looks at: not those switched off, in the form where it shows that, else in the file. */
function others(section, type, section_id) {
	const flag = section.children.find(child => child.option == 'disabled');
	const off = (name, stored) => YES.test(flag.getUIElement(name) ? flag.formvalue(name) : stored);

	return uci.sections('network', type).filter(peer => peer['.name'] != section_id && !off(peer['.name'], peer.disabled));
}

/* The argument of validators: a number or an address with the peer that has it. */
function numbers(peers) {
	return peers.map(peer => [ peer.peer_id, peer['.name'] ]);
}

function addresses(peers) {
	return peers.flatMap(peer => L.toArray(peer.vpn_ip).map(ip => [ ip, peer['.name'] ]));
}

function onlyOne(name, peer) {
	return _('%s is point to point and has the peer %s: choose the mode multi-peer on the first tab to have more.')
		.format(name, peer['.name']);
}

/* `net(option)` is an option of the interface as its dialog has it. */
function addOptions(ss, name, net) {
	const type = ss.sectiontype;
	let o;

	o = ss.option(form.Flag, 'disabled', _('Disabled'));
	o.editable = true;
	o.width = '8%';
	/* One that is switched on has to go with those that are. */
	o.validate = function(section_id) {
		const peer = uci.get('network', section_id);

		if (!YES.test(peer?.disabled) || this.formvalue(section_id) == '1')
			return true;

		const rest = others(this.section, type, section_id);

		if (net('mode') != 'mp' && rest.length)
			return onlyOne(name, rest[0]);

		/* In the dialog these fields speak for themselves. */
		if (this.section.getUIElement(section_id, 'peer_id'))
			return true;

		const ips = L.toArray(peer.vpn_ip);

		return [ validate.peerId(peer.peer_id, numbers(rest)), ...ips.map(ip => validate.vpnIp(ip, ips, addresses(rest), net('mode'))) ]
			.find(valid => valid !== true) ?? true;
	};

	o = ss.option(form.Value, 'description', _('Description'));
	o.placeholder = _('for instance, whose it is');

	o = ss.option(form.Value, 'peer_id', _('Number'),
		_('Both ends use the same one for this connection.'));
	o.rmempty = false;
	o.width = '10%';
	o.validate = function(section_id, value) {
		return validate.peerId(value, numbers(others(this.section, type, section_id)));
	};

	o = ss.option(form.Value, 'endpoint_host', _('Endpoint'),
		_('Host name or address. With TCP, empty waits for the peer to connect.'));
	o.validate = (section_id, value) => {
		if (!value && !/^tcp/.test(net('transport') || 'udp'))
			return _('With UDP the other end must be known: enter its name or address.');

		if (!value && !net('local_port'))
			return _('The peer can only be waited for on a local port, and the interface has none.');

		return validate.host(value, net('transport'));
	};

	o = ss.option(form.Value, 'endpoint_port', _('Port'));
	o.datatype = 'range(1,65535)';
	o.placeholder = '1194';
	o.modalonly = true;

	o = ss.option(form.DynamicList, 'vpn_ip', _('Addresses in the tunnel'));
	o.validate = function(section_id, value) {
		const taken = addresses(others(this.section, type, section_id));

		return validate.vpnIp(value, L.toArray(this.section.formvalue(section_id, 'vpn_ip')), taken, net('mode'));
	};

	o = ss.option(form.DynamicList, 'allowed_ips', _('Networks behind it'));
	o.modalonly = true;
	o.validate = (section_id, value) => validate.prefix(value);

	o = ss.option(form.Flag, 'route_allowed_ips', _('Route them'),
		_('Make routes to the networks behind it.'));
	o.modalonly = true;

	o = ss.option(form.Value, 'key_file', _('Key file'),
		_('On the router, readable by root alone.'));
	o.rmempty = false;
	o.modalonly = true;
	o.validate = function(section_id, value) {
		const direction = this.section.formvalue(section_id, 'key_direction') || '0';
		const other = others(this.section, type, section_id).find(peer => value && peer.key_file == value && (peer.key_direction || '0') == direction);

		return other ? _('Peer %s has this key: each needs its own.').format(other['.name']) : validate.path(value);
	};

	o = ss.option(KeyPanel, '_keys', _('Key'));
	o.interface_name = name;
	o.modalonly = true;

	o = ss.option(form.ListValue, 'key_direction', _('Direction of the key'),
		_('One end takes 0, the other 1.'));
	o.value('0');
	o.value('1');
	o.default = '0';
	o.rmempty = false;
	o.modalonly = true;

	o = ss.option(form.Flag, 'insecure_static_key', _('Accept a static key'),
		_('Its nonces repeat after every restart, so that recorded traffic can be decrypted: for tests only.'));
	o.rmempty = false;
	o.modalonly = true;
	/* LuCI hands over what a ticked box would be worth, whether it is ticked or not. */
	o.validate = function(section_id) {
		return this.formvalue(section_id) == '1' ? true
			: _('Without accepting the risk the peer does not start.');
	};

	o = ss.option(form.Value, 'keepalive_interval', _('Keepalive'), _('Seconds between two keepalives.'));
	o.placeholder = '10';
	o.modalonly = true;
	o.validate = (section_id, value) => validate.seconds(value);

	o = ss.option(form.Value, 'keepalive_timeout', _('Timeout'),
		_('Seconds without a packet after which the peer is given up; 0 is never.'));
	o.placeholder = '60';
	o.modalonly = true;
	o.validate = function(section_id, value) {
		return validate.timeout(this.section.formvalue(section_id, 'keepalive_interval'), value);
	};
}

return baseclass.extend({
	/* Adds the tab to the section `s` of an interface's dialog. */
	tab(s, kind) {
		const name = s.section;
		const net = (option) => s.formvalue(name, option) ?? uci.get('network', name, option);

		s.tab('peers', _('Peers'));

		const o = s.taboption('peers', form.SectionValue, '_peers', form.GridSection, '%s_%s'.format(PROTO, name));

		kind(o);

		const ss = o.subsection;

		ss.addremove = true;
		ss.anonymous = false;
		ss.nodescriptions = true;
		ss.addbtntitle = _('Add peer');
		ss.modaltitle = (section_id) => _('Peer %s of %s').format(section_id, name);

		/* Why there cannot be a peer of this name; null when there can. */
		const refusal = (section_id) => {
			const valid = validate.section(section_id);
			const [ only ] = net('mode') == 'mp' ? [] : others(ss, ss.sectiontype, section_id);

			if (valid !== true)
				return valid;

			/* Sections of the file share their names: a peer must not take an interface's. */
			if (uci.get('network', section_id) != null)
				return _('The name %s is taken in /etc/config/network.').format(section_id);

			return only ? onlyOne(name, only) : null;
		};

		ss.handleAdd = function(ev, section_id) {
			const why = refusal(section_id);

			return why ? ui.addNotification(null, E('p', [ why ]), 'error')
				: form.GridSection.prototype.handleAdd.call(this, ev, section_id);
		};

		ss.handleRemove = function(section_id, ev) {
			const file = uci.get('network', section_id, 'key_file');

			return keys.ask([ file ]).then(() => form.GridSection.prototype.handleRemove.call(this, section_id, ev));
		};

		ss.renderSectionPlaceholder = () => E('em', [ _('No peers.') ]);

		addOptions(ss, name, net);
	}
});
