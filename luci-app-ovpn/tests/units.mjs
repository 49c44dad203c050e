// SPDX-License-Identifier: GPL-2.0-only
// Parts of the pages without a browser: how the import reads an .ovpn file, and the protocol's rules.
//
//   node tests/units.mjs

import assert from 'node:assert/strict';
import fs from 'node:fs';

/** A module of LuCI with the modules it requires; the names are those of its `require`s, and `_`. */
function load(file, modules) {
	const source = fs.readFileSync(new URL(`../htdocs/luci-static/resources/${file}`, import.meta.url), 'utf8');

	return new Function(...Object.keys(modules), '_', source)(...Object.values(modules), text => text);
}

const baseclass = { extend: object => object };

/* LuCI's format, as far as the file uses it. */
String.prototype.format = function(...args) {
	return this.replace(/%(?:[sd]|0(\d)x)/g, (all, width) => width ? args.shift().toString(16).padStart(+width, '0') : String(args.shift()));
};

const profile = load('ovpn/profile.js', { baseclass });
const SECRET = 'SECRETLINEOFTHEKEY';

function splits() {
	for (const [ line, words ] of [
		[ 'a b\tc\r', [ 'a', 'b', 'c' ] ],
		[ 'a b#c #d', [ 'a', 'b#c' ] ],
		[ 'a ;b', [ 'a' ] ],
		[ '\\# a', [] ],
		[ '"a b"c \'d \\ e\'', [ 'a b', 'c', 'd \\ e' ] ],
		[ 'a\\ b \\"c', [ 'a b', '"c' ] ],
		[ '"" x', [ '', 'x' ] ],
		[ 'a "b', null ],
		[ 'a\\b', null ]
	])
		assert.deepEqual(profile.words(line), words, line);
}

function asks() {
	for (const [ line, user, files ] of [
		[ 'auth-user-pass', true, [] ],
		[ 'auth-user-pass # ask', true, [] ],
		[ 'auth-user-pass ;/etc/openvpn/auth.txt', true, [] ],
		[ 'auth-user-pass #/etc/openvpn/auth.txt', true, [] ],
		[ '--auth-user-pass "/etc/openvpn/a b" # c', false, [ [ 'auth-user-pass', '/etc/openvpn/a b' ] ] ],
		[ "auth-user-pass '/etc/openvpn/a#b'", false, [ [ 'auth-user-pass', '/etc/openvpn/a#b' ] ] ],
		[ 'auth-user-pass username-only', true, [] ],
		[ 'setenv opt auth-user-pass', true, [] ],
		[ '<auth-user-pass> # here\nanna\ngeheim\n</auth-user-pass> # end', false, [] ],
		[ '# auth-user-pass', false, [] ]
	]) {
		const parsed = profile.parse(`client\n${line}\n`);

		assert.deepEqual([ parsed.asksUser, parsed.files ], [ user, files ], line);
	}
}

/** No line of a block, known or not, is in the preview. */
function hides() {
	for (const text of [
		`<key> # of the laptop\n${SECRET}\n</key> # end\n`,
		`<unknown>\n${SECRET}\n</unknown>\n`,
		`<key>\n${SECRET}\n`,
		`<key> x\n-----BEGIN PRIVATE KEY-----\n${SECRET}\n`,
		`"<key>"\n${SECRET}\n  </key>\n`,
		`<connection> # one\nremote a\n<tls-auth>\n${SECRET}\n</tls-auth>\n</connection>\n`,
		`auth-token ${SECRET}\n`
	]) {
		const { preview } = profile.parse(`client\n${text}verb 3\n`);

		assert.ok(!preview.includes(SECRET) && !preview.includes('BEGIN'), preview);
		assert.ok(preview.startsWith('client\n'), preview);
	}

	assert.equal(profile.parse('client\n<ca>\na\nb\n</ca> # x\nverb 3 # y').preview,
		'client\n<ca>\n    … 2 lines, not shown\n</ca>\nverb 3 # y');
}

function decodes() {
	assert.equal(profile.decode(Uint8Array.from([ 0x23, 0x20, 0x53, 0x63, 0x68, 0x6c, 0xfc, 0x73, 0x73, 0x65, 0x6c ])), '# Schlüssel');
	assert.equal(profile.decode(new TextEncoder().encode('# Schlüssel')), '# Schlüssel');
}

/** Peers go with their interface, and no others. */
async function deletes() {
	const sections = [ [ 'openvpn_dco_vpn0', 'alice' ], [ 'openvpn_dco_vpn0', 'bob' ], [ 'openvpn_dco_vpn1', 'carol' ] ];
	const gone = [];
	const uci = {
		sections: (config, type) => sections.filter(([ kind ]) => kind == type).map(([ , name ]) => ({ '.name': name, 'key_file': `${name}.key` })),
		get: (config, name, option) => option == 'ca' ? '/etc/ovpn/vpn0.ca' : null,
		remove: (config, name) => gone.push(`${config}.${name}`)
	};
	const network = { registerErrorCode: () => {}, registerProtocol: (name, members) => members };
	const asked = [];
	const keys = { ask: files => asked.push(...files.filter(Boolean)) };
	const client = { FILES: [ 'ca', 'key' ] };
	const removed = [];
	const server = { files: name => ({ key: `/etc/ovpn/${name}/server.key` }), remove: async name => removed.push(name) };
	const protocol = load('protocol/openvpn_dco.js', { form: {}, network, uci, client, keys, parts: { style() {} }, peers: {}, server, validate: {} });

	await protocol.deleteConfiguration.call({ sid: 'vpn0' });
	assert.deepEqual(removed, [ 'vpn0' ]);
	assert.deepEqual(gone, [ 'network.alice', 'network.bob' ]);
	assert.deepEqual(asked, [ 'alice.key', 'bob.key', '/etc/ovpn/vpn0.ca' ]);
}

/** An address without a prefix length is asked about. */
function prefixes() {
	const parse = family => text => (family == 4 ? /^[0-9.]+$/ : /^[0-9a-f:]+$/).test(text) ? [] : null;
	const validate = load('ovpn/validate.js', { baseclass, validation: { parseIPv4: parse(4), parseIPv6: parse(6) } });

	for (const [ value, right ] of [ [ '10.8.0.1/24', true ], [ 'fd00::1/64', true ], [ '', true ], [ '10.8.0.1', false ], [ 'fd00::1', false ] ])
		assert.equal(validate.addresses(value, [ value ]) === true, right, value);

	assert.match(validate.addresses('10.8.0.1', []), /\/24.*\/32/);
	assert.match(validate.addresses('fd00::1', []), /\/64.*\/128/);
}

/** Of the longest names too, ovpnd takes the key's file, and no two have the same. */
function names() {
	const keys = load('ovpn/keys.js', { baseclass, dom: {}, ui: {}, api: {} });
	const files = [ 'a', 'b' ].map(end => keys.keyFile('a_name_of_15_ch', `very_${'long_'.repeat(11)}${end}`));

	assert.ok(files.every(file => file.length <= 64 && /^[\w.-]+$/.test(file)), files.join());
	assert.notEqual(...files);
	assert.equal(keys.keyFile('vpn0', 'bob'), 'vpn0-bob.key');
}

/** The list of a server's options for clients, and the rules of a firewall that let clients in. */
function serves() {
	const parse = family => text => (family == 4 ? /^[0-9.]+$/ : /^[0-9a-f]*:[0-9a-f:]*$/).test(text) ? text.split('.').map(Number) : null;
	const validate = load('ovpn/validate.js', { baseclass, validation: { parseIPv4: parse(4), parseIPv6: parse(6) } });
	const panel = { extend: members => members };
	const uci = { get: (config, section, option) => option == 'server_ipv6' && section == 'six' ? 'fd00::/64' : null };
	const { PUSHES, opens } = load('ovpn/server.js', { baseclass, dom: {}, form: { DummyValue: panel }, uci, ui: {}, api: {}, validate });

	for (const [ line, name, value ] of [
		[ 'route 192.168.1.0 255.255.255.0', '_routes', '192.168.1.0/24' ],
		[ 'route 192.168.1.7', '_routes', '192.168.1.7/32' ],
		[ 'route-ipv6 fd00::/64', '_routes', 'fd00::/64' ],
		[ 'dhcp-option DNS 10.8.0.1', '_dns', '10.8.0.1' ],
		[ 'redirect-gateway def1', '_redirect', '1' ],
		[ 'route 10.0.0.0 255.0.0.0 vpn_gateway 5', '_push', null ],
		[ 'route 10.0.0.0 255.0.255.0', '_push', null ],
		[ 'dhcp-option DOMAIN lan', '_push', null ]
	]) {
		const fields = Object.keys(PUSHES).filter(one => PUSHES[one].read(line) != null);

		assert.deepEqual(fields, [ name ], line);
		assert.equal(PUSHES[name].read(line), value ?? line);

		if (line != 'route 192.168.1.7')
			assert.equal(PUSHES[name].write(value ?? line, 'four'), line);
	}

	assert.equal(PUSHES._redirect.write('1', 'six'), 'redirect-gateway def1 ipv6');

	const rule = { src: 'wan', target: 'ACCEPT', proto: 'udp', dest_port: '1190-1194' };

	for (const [ change, open ] of [ [ {}, true ], [ { dest_port: '22 1194' }, true ], [ { proto: [ 'tcp', 'udp' ] }, true ], [ { src: '*' }, true ],
		[ { proto: undefined, dest_port: undefined }, true ], [ { dest_port: '1193' }, false ], [ { proto: 'tcp' }, false ], [ { src: 'lan' }, false ],
		[ { target: 'DROP' }, false ], [ { enabled: '0' }, false ], [ { dest: 'lan' }, false ] ])
		assert.equal(opens({ ...rule, ...change }, '1194', [ 'udp' ]), open, JSON.stringify(change));

	for (const [ value, right ] of [ [ '10.8.0.0/24', true ], [ '10.8.0.0 255.255.255.0', true ], [ '', true ], [ '10.8.0.1/24', false ],
		[ '10.8.0.0', false ], [ '10.8.0.0/30', false ], [ '10.8.0.0 255.0.255.0', false ], [ 'fd00::/64', false ] ])
		assert.equal(validate.pool(value) === true, right, value);

	for (const [ value, right ] of [ [ 'fd00:8::/64', true ], [ '', true ], [ 'fd00:8::/48', false ], [ 'fd00:8::', false ], [ '10.8.0.0/24', false ] ])
		assert.equal(validate.pool6(value) === true, right, value);
}

/** Options of a client of OpenVPN: each is refused that ovpnd would refuse. */
function clients() {
	const parse = family => text => (family == 4 ? /^[0-9.]+$/ : /^[0-9a-f]*:[0-9a-f:]*$/).test(text) ? [] : null;
	const validate = load('ovpn/validate.js', { baseclass, validation: { parseIPv4: parse(4), parseIPv6: parse(6) } });

	for (const [ value, right, others ] of [
		[ 'vpn.example.org', true ], [ 'a 1194', true ], [ '192.0.2.1 1194 udp', true ], [ 'fd00::1 1194 udp6', true ], [ '', false ],
		[ 'a abc', false ], [ 'a 0', false ], [ 'a 65536', false ], [ 'a 1194 tcp', false ], [ 'a 1194 foo', false ], [ 'a 1 udp x', false ],
		[ 'fd00::1 1194', false ], [ 'a 1194 udp6', false, [ 'b 1194 udp' ] ], [ 'a 1194', true, [ 'b', 'a 1194' ] ]
	])
		assert.equal(validate.remote(value, others ?? []) === true, right, value);

	for (const [ value, right ] of [ [ 'AES-256-GCM:chacha20-poly1305', true ], [ '?FOO:AES-128-GCM', true ], [ 'AES256-GCM', false ] ])
		assert.equal(validate.ciphers(value) === true, right, value);

	assert.equal(validate.fingerprint(Array(32).fill('Ab').join(':')), true);
	assert.notEqual(validate.fingerprint(Array(31).fill('Ab').join(':')), true);
}

const cases = { names, clients, serves, splits, asks, hides, decodes, deletes, prefixes };

console.log(`TAP version 13\n1..${Object.keys(cases).length}`);

for (const [ index, [ name, work ] ] of Object.entries(cases).entries())
	try {
		await work();
		console.log(`ok ${index + 1} - units: ${name}`);
	}
	catch (error) {
		process.exitCode = 1;
		console.log(`not ok ${index + 1} - units: ${name}`);
		String(error.stack).split('\n').forEach(line => console.log(`# ${line}`));
	}
