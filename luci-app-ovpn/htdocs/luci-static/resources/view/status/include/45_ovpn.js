// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require ovpn.api as api';
'require ovpn.parts as parts';

return baseclass.extend({
	title: _('OpenVPN tunnels'),

	load() {
		return api.status();
	},

	render(status) {
		/* LuCI leaves a widget out that renders nothing. */
		if (!status || !status.interfaces.length)
			return null;

		const titles = [ _('Interface'), _('State'), _('Peers') ];

		return E('div', [ parts.style(), E('table', { 'class': 'table ovpn-status' }, [
			parts.head(titles),
			...status.interfaces.map(one => E('tr', { 'class': 'tr' }, [
				parts.cell(titles[0], E('a', { 'href': L.url('admin/vpn/ovpn/overview') }, [ one.name ])),
				parts.cell(titles[1], [
					parts.stateLabel(one.state, one.error),
					one.error ? E('div', { 'class': 'ovpn-error' }, [ one.error ]) : ''
				]),
				parts.cell(titles[2], _('%d of %d in the kernel').format(one.peers_up, one.peers))
			]))
		]) ]);
	}
});
