// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require view';
'require form';
'require protocol.openvpn_dco as protocol';

/* The options of our protocol as the dialog of Network > Interfaces shows them: one section with tabs. */

return view.extend({
	render() {
		const map = new form.Map('network', 'Interfaces');
		const section = map.section(form.NamedSection, window.location.hash.slice(1) || 'vpn0', 'interface');

		section.tab('general', 'General');
		section.tab('advanced', 'Advanced');
		protocol.renderFormOptions(section);

		return map.render();
	}
});
