// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's validation.js that our pages use: the words of an address, or null.
'use strict';
'require baseclass';

return baseclass.extend({
	parseIPv4(text) {
		const words = /^\d{1,3}(\.\d{1,3}){3}$/.test(text) ? text.split('.').map(Number) : [];

		return words.length == 4 && words.every(word => word <= 255) ? words : null;
	},

	parseIPv6(text) {
		const last = text.match(/^(.*:)(\d+\.\d+\.\d+\.\d+)$/);
		const v4 = last ? this.parseIPv4(last[2]) : null;

		if (last)
			text = v4 ? '%s%x:%x'.format(last[1], v4[0] * 256 + v4[1], v4[2] * 256 + v4[3]) : 'wrong';

		const [ front, back, more ] = text.split('::');
		const words = [ front, back ].map(part => part ? part.split(':') : []);
		const all = [ ...words[0], ...words[1] ];
		const fits = back == null ? all.length == 8 : all.length <= 7;

		if (more != null || !text || !fits || !all.every(word => /^[0-9a-fA-F]{1,4}$/.test(word)))
			return null;

		return [ ...words[0], ...Array(8 - all.length).fill('0'), ...words[1] ].map(word => parseInt(word, 16));
	}
});
