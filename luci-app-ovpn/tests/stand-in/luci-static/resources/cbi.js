// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's cbi.js that our pages use: translations, and String.format.
'use strict';

window._ = function(string) {
	return window.TR?.[string] ?? string;
};

{
	const UNITS = [ '', 'K', 'M', 'G', 'T', 'P', 'E' ];
	const HTML = { '&': '&#38;', '"': '&#34;', "'": '&#39;', '<': '&#60;', '>': '&#62;' };

	const large = (value, base, digits) => {
		let at = 0;

		for (; at < UNITS.length - 1 && value > base; at++)
			value /= base;

		return at ? `${value.toFixed(digits)} ${UNITS[at]}${base == 1024 ? 'i' : ''}` : `${value} `;
	};

	String.prototype.format = function(...values) {
		return this.replace(/%(0?[0-9]*)(?:\.([0-9]+))?([sdhmfx%])/g, (all, width, digits, kind) => {
			if (kind == '%')
				return '%';

			const value = values.shift();

			switch (kind) {
			case 'd': return String(Math.trunc(+value || 0));
			case 'f': return (+value || 0).toFixed(digits ?? 6);
			case 'x': return (+value || 0).toString(16).padStart(+width || 0, '0');
			case 'm': return large(+value || 0, +width || 1000, +(digits ?? 2));
			case 'h': return String(value).replace(/[&"'<>]/g, one => HTML[one]);
			default:  return String(value);
			}
		});
	};
}
