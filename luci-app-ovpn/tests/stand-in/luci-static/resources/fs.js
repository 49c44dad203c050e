// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's fs.js that our pages use.
'use strict';
'require baseclass';
'require rpc';

const callList = rpc.declare({ object: 'file', method: 'list', params: [ 'path' ] });
const callWrite = rpc.declare({ object: 'file', method: 'write', params: [ 'path', 'data', 'mode' ] });

function checked(answer) {
	if (typeof answer == 'number' && answer != 0)
		throw new Error('ubus code %d'.format(answer));

	return answer;
}

return baseclass.extend({
	list: path => callList(path).then(answer => checked(answer).entries ?? []),
	write: (path, data, mode) => callWrite(path, String(data ?? ''), mode ?? 0o644).then(checked)
});
