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
	return this.replace(/%[sd]/g, () => String(args.shift()));
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
function deletes() {
	const sections = [ [ 'openvpn_dco_vpn0', 'alice' ], [ 'openvpn_dco_vpn0', 'bob' ], [ 'openvpn_dco_vpn1', 'carol' ] ];
	const gone = [];
	const uci = {
		sections: (config, type) => sections.filter(([ kind ]) => kind == type).map(([ , name ]) => ({ '.name': name })),
		remove: (config, name) => gone.push(`${config}.${name}`)
	};
	const network = { registerErrorCode: () => {}, registerProtocol: (name, members) => members };
	const protocol = load('protocol/openvpn_dco.js', { form: {}, network, uci, validate: {} });

	protocol.deleteConfiguration.call({ sid: 'vpn0' });
	assert.deepEqual(gone, [ 'network.alice', 'network.bob' ]);
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

const cases = { splits, asks, hides, decodes, deletes, prefixes };

console.log(`TAP version 13\n1..${Object.keys(cases).length}`);

for (const [ index, [ name, work ] ] of Object.entries(cases).entries())
	try {
		work();
		console.log(`ok ${index + 1} - units: ${name}`);
	}
	catch (error) {
		process.exitCode = 1;
		console.log(`not ok ${index + 1} - units: ${name}`);
		String(error.stack).split('\n').forEach(line => console.log(`# ${line}`));
	}
