// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require view';
'require view.status.include.45_ovpn as widget';

/* The widget of Status > Overview alone. */

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	load() {
		return widget.load();
	},

	render(data) {
		return E('div', { 'class': 'cbi-section' }, [ E('h3', [ widget.title ]), widget.render(data) ]);
	}
});
