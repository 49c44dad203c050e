// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require rpc';

/* Calls of the ubus object ovpnd. Its document says what is in the answers. */

const callStatus = rpc.declare({ object: 'ovpnd', method: 'status' });
const callInterfaces = rpc.declare({ object: 'ovpnd', method: 'interfaces', expect: { interfaces: [] } });
const callPeers = rpc.declare({ object: 'ovpnd', method: 'peers', params: [ 'interface', 'offset', 'limit' ] });
const callDiag = rpc.declare({ object: 'ovpnd', method: 'diag' });
const callLint = rpc.declare({ object: 'ovpnd', method: 'lint', params: [ 'text' ] });
const callDisconnect = rpc.declare({ object: 'ovpnd', method: 'peer_disconnect', params: [ 'interface', 'peer' ] });
const callKeyGenerate = rpc.declare({ object: 'ovpnd', method: 'key_generate', params: [ 'file', 'overwrite' ] });
const callKeyImport = rpc.declare({ object: 'ovpnd', method: 'key_import', params: [ 'file', 'text', 'overwrite' ] });

/* A call that failed answers with its problems, or, from an old broker, with the bare status. */
function done(answer) {
	if (L.isObject(answer) && answer.ok)
		return answer;

	const problems = L.isObject(answer) ? L.toArray(answer.problems) : [];
	const text = problems.map(problem => problem.text).join('\n');

	throw new Error(text || _('The daemon ovpnd refused the call.'));
}

return baseclass.extend({
	/* State of the driver and of all tunnels in short; null without a daemon. */
	status() {
		return L.resolveDefault(callStatus(), null).then(answer => L.isObject(answer) ? answer : null);
	},

	/* All tunnels with their sums. */
	interfaces() {
		return L.resolveDefault(callInterfaces(), []);
	},

	/* A part of the peers of an interface: { total, peers }. */
	peers(name, offset, limit) {
		return L.resolveDefault(callPeers(name, offset, limit), null)
			.then(answer => L.isObject(answer) && Array.isArray(answer.peers) ? answer : { total: 0, peers: [] });
	},

	/* What keeps tunnels from the kernel, by subject. */
	diag() {
		return L.resolveDefault(callDiag(), null)
			.then(answer => L.isObject(answer) ? L.toArray(answer.subjects) : []);
	},

	/* Findings in the text of an .ovpn file. */
	lint(text) {
		return callLint(text).then(answer => {
			if (!L.isObject(answer) || !Array.isArray(answer.findings))
				return done(answer);

			return answer;
		});
	},

	disconnect(name, peer) {
		return callDisconnect(name, peer).then(done);
	},

	/* Both resolve to { file, key_fingerprint }: the key itself is in no answer. */
	keyGenerate(file, overwrite) {
		return callKeyGenerate(file, overwrite).then(done);
	},

	keyImport(file, text, overwrite) {
		return callKeyImport(file, text, overwrite).then(done);
	}
});
