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

const callKeyDelete = rpc.declare({ object: 'ovpnd', method: 'key_delete', params: [ 'file' ] });
const callCaInit = rpc.declare({ object: 'ovpnd', method: 'ca_init', params: [ 'interface', 'names' ] });
const callCaList = rpc.declare({ object: 'ovpnd', method: 'ca_list', params: [ 'interface' ] });
const callCaRevoke = rpc.declare({ object: 'ovpnd', method: 'ca_revoke', params: [ 'interface', 'client' ] });
const callCaDelete = rpc.declare({ object: 'ovpnd', method: 'ca_delete', params: [ 'interface' ] });
const callProfileExport = rpc.declare({ object: 'ovpnd', method: 'profile_export', params: [ 'interface', 'client', 'remote', 'renew' ] });
const callProfileImport = rpc.declare({ object: 'ovpnd', method: 'profile_import', params: [ 'name', 'text', 'make', 'user', 'password' ] });

const callAnswer = rpc.declare({ object: 'ovpnd', method: 'answer', params: [ 'interface', 'answer', 'user' ] });
const callStart = rpc.declare({ object: 'ovpnd', method: 'start', params: [ 'interface' ] });
const callStop = rpc.declare({ object: 'ovpnd', method: 'stop', params: [ 'interface' ] });
const callUserList = rpc.declare({ object: 'ovpnd', method: 'user_list', params: [ 'file' ] });
const callUserSet = rpc.declare({ object: 'ovpnd', method: 'user_set', params: [ 'file', 'user', 'password' ] });
const callUserDel = rpc.declare({ object: 'ovpnd', method: 'user_del', params: [ 'file', 'user' ] });

/* JSON-RPC of uhttpd for a call that the access list does not allow. */
const DENIED = /-32002/;
/* Status of the bus, ubusmsg.h. */
const PERMISSION_DENIED = 6;

/* A call without an answer of ovpnd: an error of uhttpd, or the bare status of the bus. */
function unanswered(why) {
	const denied = why instanceof Error ? DENIED.test(why.message) : why == PERMISSION_DENIED;

	return new Error(denied ? _('You are not allowed to do this.') : _('The daemon ovpnd does not answer.'));
}

/* An answer as it is, with what is said when there is none. */
function ask(call) {
	return call.catch(error => { throw unanswered(error); }).then(answer => {
		if (!L.isObject(answer))
			throw unanswered(answer);

		return answer;
	});
}

/* A call that failed answers with its problems. */
function done(answer) {
	if (answer.ok)
		return answer;

	const text = L.toArray(answer.problems).map(problem => problem.text).join('\n');

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

	/* A part of the peers of an interface: { total, peers }; null when the interface or the daemon has just gone. */
	peers(name, offset, limit) {
		return L.resolveDefault(callPeers(name, offset, limit), null)
			.then(answer => L.isObject(answer) && Array.isArray(answer.peers) ? answer : null);
	},

	/* Findings that keep tunnels from the kernel, by subject. */
	diag() {
		return L.resolveDefault(callDiag(), null)
			.then(answer => L.isObject(answer) ? L.toArray(answer.subjects) : []);
	},

	/* Findings in the text of an .ovpn file. */
	lint(text) {
		return ask(callLint(text)).then(answer => Array.isArray(answer.findings) ? answer : done(answer));
	},

	/* Resolves to { file, auth_file }: ovpnd writes them and the section of what is to be made, `client`, `interface` or
	   `instance`, and refuses a text that would do more than make a tunnel. */
	profileImport(name, text, make, user, password) {
		return ask(callProfileImport(name, text, make, user, password)).then(done);
	},

	disconnect(name, peer) {
		return ask(callDisconnect(name, peer)).then(done);
	},

	/* The answer to a tunnel's question, with the name of a user where that is asked for. */
	answer(name, text, user) {
		return ask(callAnswer(name, text, user ?? undefined)).then(done);
	},

	/* Starts and stops a tunnel, by netifd where it is: it is done a moment later. */
	start(name) {
		return ask(callStart(name)).then(done);
	},

	stop(name) {
		return ask(callStop(name)).then(done);
	},

	/* Names in a file of users, none when there is no file. */
	userList(file) {
		return ask(callUserList(file)).then(done).then(answer => L.toArray(answer.users));
	},

	/* Adds a user or changes the password of one. */
	userSet(file, user, password) {
		return ask(callUserSet(file, user, password)).then(done);
	},

	userDel(file, user) {
		return ask(callUserDel(file, user)).then(done);
	},

	/* Both resolve to { file, key_fingerprint }: the key itself is in no answer. */
	keyGenerate(file, overwrite) {
		return ask(callKeyGenerate(file, overwrite)).then(done);
	},

	keyImport(file, text, overwrite) {
		return ask(callKeyImport(file, text, overwrite)).then(done);
	},

	/* Makes an authority and a server's files; `names` are further names of the server, with blanks between them. */
	caInit(name, names) {
		return ask(callCaInit(name, names)).then(done);
	},

	/* Resolves to { ca, server, clients }; null when there is no authority, or no daemon. */
	caList(name) {
		return L.resolveDefault(callCaList(name), null).then(answer => L.isObject(answer) && answer.ok ? answer : null);
	},

	caRevoke(name, client) {
		return ask(callCaRevoke(name, client)).then(done);
	},

	/* Deletes an authority once no section names a file of it any more. */
	caDelete(name) {
		return ask(callCaDelete(name)).then(done);
	},

	/* Resolves to { file, text }: the profile has the client's key, which is nowhere else. */
	profileExport(name, client, remote, renew) {
		return ask(callProfileExport(name, client, remote, renew)).then(done);
	},

	/* Deletes a file once no section names it any more. */
	keyDelete(file) {
		return ask(callKeyDelete(file)).then(done);
	}
});
