// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's network.js that our protocol uses.
'use strict';
'require baseclass';

const Protocol = baseclass.extend({
	__init__(name) {
		this.sid = name;
	},

	_ubus() {
		return null;
	}
});

return baseclass.extend({
	protocols: {},

	registerProtocol(name, members) {
		return this.protocols[name] = Protocol.extend({ ...members, getProtocol: () => name });
	},

	registerErrorCode(code, message) {
		this.errors[code] = message;
		return true;
	},

	errors: {},
	getIfnameOf: device => device
});
