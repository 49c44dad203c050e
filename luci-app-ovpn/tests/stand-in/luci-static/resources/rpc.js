// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for LuCI's rpc.js: calls of ubus methods by JSON-RPC.
'use strict';
'require baseclass';

let id = 0;

return baseclass.extend({
	declare({ object, method, params, expect, reject }) {
		return async (...values) => {
			const args = Object.fromEntries((params ?? []).map((name, index) => [ name, values[index] ]));
			const answer = await fetch(L.env.ubuspath, {
				method: 'POST',
				body: JSON.stringify({ jsonrpc: '2.0', id: ++id, method: 'call', params: [ L.env.sessionid, object, method, args ] })
			});
			const message = await answer.json();

			if (message.error)
				throw new Error('RPC call to %s/%s failed with error %d: %s'.format(object, method, message.error.code, message.error.message));

			if (reject && message.result[0] !== 0)
				throw new Error('RPC call to %s/%s failed with ubus code %d'.format(object, method, message.result[0]));

			let result = message.result.length > 1 ? message.result[1] : message.result[0];

			for (const [ key, otherwise ] of Object.entries(expect ?? {}).slice(0, 1)) {
				result = result != null && key ? result[key] : result;

				if (Object.prototype.toString.call(result) != Object.prototype.toString.call(otherwise))
					result = otherwise;
			}

			return result;
		};
	}
});
