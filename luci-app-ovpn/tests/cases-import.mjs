// SPDX-License-Identifier: GPL-2.0-only
// The page that imports .ovpn files.

import assert from 'node:assert/strict';

const SECRET = 'c2VjcmV0IGtleSBvZiBhIHRlc3Q=';

const profile = more => `client
dev tun
proto udp
remote vpn.example.org 1194
remote-cert-tls server
data-ciphers AES-256-GCM
${more}
<ca>
-----BEGIN CERTIFICATE-----
Y2VydGlmaWNhdGU=
-----END CERTIFICATE-----
</ca> # of the office
<cert>
-----BEGIN CERTIFICATE-----
Y2VydGlmaWNhdGU=
-----END CERTIFICATE-----
</cert>
<key> # of this router
-----BEGIN PRIVATE KEY-----
${SECRET}
-----END PRIVATE KEY-----
</key>
`;

/** `text` may be bytes, too. */
async function drop(browser, name, text) {
	await browser.page.$eval('.ovpn-drop', (node, file, content) => {
		const data = new DataTransfer();

		data.items.add(new File([ typeof content == 'string' ? content : Uint8Array.from(content) ], file));
		node.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
	}, name, text);
	await browser.until(() => document.querySelector('#ovpn-verdict'));
}

async function paste(browser, text) {
	await browser.page.$eval('#ovpn-text', (node, value) => { node.value = value; }, text);
	await browser.page.$eval('#ovpn-import-preview', node => node.replaceChildren());
	await browser.click('#ovpn-check');
	await browser.until(() => document.querySelector('#ovpn-import-preview').children.length);
}

/** The same without a mouse. */
async function type(browser, text) {
	await browser.tab('#ovpn-text');
	await browser.page.keyboard.sendCharacter(text);
	await browser.tab('#ovpn-check');
	await browser.page.keyboard.press('Enter');
	await browser.until(() => document.querySelector('#ovpn-import-preview').children.length);
}

/** Drops what is no such file, and resolves to what is said at the field. */
async function refused(browser, name, size, byte) {
	await browser.page.$eval('#ovpn-wrong', node => node.replaceChildren());
	await browser.page.$eval('.ovpn-drop', (node, file, length, value) => {
		const data = new DataTransfer();

		data.items.add(new File([ new Uint8Array(length).fill(value) ], file));
		node.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
	}, name, size, byte);
	await browser.until(() => document.querySelector('#ovpn-wrong').textContent);
	assert.equal(await browser.page.$eval('#ovpn-text', node => node.getAttribute('aria-invalid')), 'true');
	assert.equal(await browser.page.$('#ovpn-create'), null);

	return browser.text('#ovpn-wrong');
}

/** A dropped file that the kernel takes: seen first, then written, and no key is shown. */
async function good({ open, browser, guest, rpcd, router }) {
	await open('ovpn/import');
	await drop(browser, 'My Office (2).ovpn', profile('auth-user-pass'));
	assert.match(await browser.text('#ovpn-verdict'), /The kernel can carry/);
	assert.equal(await browser.text('#ovpn-remotes'), 'vpn.example.org:1194 udp');
	assert.equal(await browser.text('#ovpn-inline'), 'ca, cert, key');
	assert.ok(!(await browser.text('#ovpn-import-preview')).includes(SECRET), 'the preview shows the key');
	assert.deepEqual(rpcd.calls.filter(one => [ 'write', 'add', 'set', 'apply' ].includes(one.name)), []);
	assert.equal(await browser.page.$eval('#ovpn-name input', node => node.value), 'my_office_2');
	await browser.shoot('import');

	await browser.fill('#ovpn-name input', 'vpn0');
	await browser.click('#ovpn-create');
	assert.ok(await browser.page.$('#ovpn-name .cbi-input-invalid'), 'the name of another interface is taken');
	await browser.fill('#ovpn-name input', 'office');
	// OpenVPN cannot ask on a router; ovpnd can, for both or for neither.
	await browser.click('#ovpn-make input[value="interface"]');
	await browser.click('#ovpn-create');
	assert.ok(await browser.page.$('#ovpn-user .cbi-input-invalid'), 'a file that asks for a user is taken without one');
	await browser.click('#ovpn-make input[value="client"]');
	await browser.fill('#ovpn-user input', 'anna');
	await browser.click('#ovpn-create');
	assert.ok(await browser.page.$('#ovpn-password .cbi-input-invalid'), 'a user is taken without a password');
	await browser.fill('#ovpn-password input', 'geheim');

	// ovpnd's own client comes first, and says what is wrong with the certificate of this file.
	const before = [ await guest.ok([ 'ls', '/etc/ovpn' ]), await guest.ok([ 'cat', '/etc/config/network' ]) ];

	assert.equal(await browser.page.$eval('#ovpn-make input:checked', input => input.value), 'client');
	await browser.click('#ovpn-create');
	await browser.until(() => /could not be made.*'cert'/.test(document.querySelector('#ovpn-failed').textContent));
	assert.deepEqual([ await guest.ok([ 'ls', '/etc/ovpn' ]), await guest.ok([ 'cat', '/etc/config/network' ]) ], before);
	await browser.click('#ovpn-make input[value="interface"]');
	await browser.apply('#ovpn-create');

	const config = await guest.ok([ 'cat', '/etc/config/network' ]);

	assert.match(config, /config interface 'office'\n\toption proto 'openvpn'\n\toption config '\/etc\/ovpn\/office.ovpn'\n\toption auth_user_pass '\/etc\/ovpn\/office.auth'\n/);
	assert.ok(!config.includes('geheim'));
	assert.equal(await guest.ok([ 'cat', '/etc/ovpn/office.ovpn' ]), profile('auth-user-pass'));
	assert.equal(await guest.ok([ 'cat', '/etc/ovpn/office.auth' ]), 'anna\ngeheim\n');
	assert.equal(await guest.ok([ 'stat', '-c', '%a', '/etc/ovpn/office.ovpn', '/etc/ovpn/office.auth' ]), '600\n600\n');
	assert.deepEqual(rpcd.calls.filter(one => one.object == 'uci' && one.name != 'get' && one.name != 'changes'), [], 'the session writes a configuration');

	// The daemon goes on with its own, and knows the new one.
	const { subjects } = await router.call('diag');

	assert.ok(subjects.some(subject => subject.name == 'office' && subject.kind == 'openvpn'), JSON.stringify(subjects));
	await router.reaches('10.8.0.2');
}

/** One that the kernel does not take: the reasons with their lines and remedies. */
async function slow({ open, browser, router }) {
	const text = profile('comp-lzo yes\nfragment 1300').replace('dev tun', 'dev tap') + 'extra-certs client.crt\n';
	const { findings } = await router.call('lint', { text });

	await open('ovpn/import');
	await type(browser, text);
	assert.match(await browser.text('#ovpn-verdict'), /cannot carry/);
	assert.match(await browser.text('#ovpn-obstacles'), /dev \(line 2\).*comp-lzo/);
	assert.equal(await browser.page.$eval('#ovpn-make input:checked', input => input.value), 'interface');

	// From top to bottom, the worst first.
	const lines = await browser.page.$$eval('#ovpn-import-preview .ovpn-finding h4', heads => heads.map(head => +head.textContent.match(/line (\d+)/)?.[1]).filter(Boolean));

	assert.deepEqual(lines, [ ...lines ].sort((a, b) => a - b));
	assert.ok([ 'tap', 'comp', 'fragment' ].every(code => findings.some(finding => finding.code == code)), JSON.stringify(findings));

	for (const finding of findings) {
		const shown = await browser.text(`.ovpn-finding[data-code="${finding.code}"]`);

		assert.ok(shown.includes(finding.text) && shown.includes(finding.remedy), shown);
		assert.ok(!finding.line || shown.includes(`line ${finding.line}`), shown);
	}

	assert.match(await browser.text('.ovpn-finding[data-code="external-file"]'), /client\.crt/);
	await browser.shoot('import-slow');
}

/** Inputs that are no such file at all. */
async function bad({ open, browser, rpcd }) {
	await open('ovpn/import');
	await browser.click('#ovpn-check');
	await browser.until(() => /no text to import/.test(document.querySelector('#ovpn-wrong').textContent));
	assert.match(await refused(browser, 'big.ovpn', 10 << 20, 0x78), /big\.ovpn is too big/);
	/* Ends of lines, each two bytes of the call that they go in. */
	assert.match(await refused(browser, 'lines.ovpn', 40 << 10, 0x0a), /lines\.ovpn is too big/);
	assert.match(await refused(browser, 'client.zip', 300, 0), /client\.zip is no text/);
	assert.match(await refused(browser, 'photo.jpg', 300, 0x01), /photo\.jpg is no text/);
	assert.equal(await browser.page.$eval('#ovpn-text', node => node.value), '');

	// A text just within the limit gets an answer: uhttpd counts the whole call.
	await paste(browser, `Dear customer,\n# ${'x'.repeat(60 * 1024 - 30)}\n`);
	assert.match(await browser.text('#ovpn-import-preview [data-code="config-file"]'), /no directive of OpenVPN/);

	for (const [ text, code, words ] of [
		[ 'Dear customer,\nthank you.\n', 'config-file', /no directive of OpenVPN/ ],
		[ profile('').replace(/remote .*\n/, ''), 'remote', /names no server/ ],
		[ profile('remote-crt-tls server\nhttp_proxy a\n'), 'unknown', /remote-crt-tls \(line 7\) and a word \(line 8\)/ ],
		[ profile('').replace('dev tun', "dev 'tun"), 'config-file', /Line 2 has a quote that is never closed/ ]
	]) {
		await paste(browser, text);
		assert.match(await browser.text(`#ovpn-import-preview [data-code="${code}"]`), words);
		assert.ok(await browser.page.$eval('#ovpn-create', button => button.disabled), code);
		assert.notEqual(await browser.text('#ovpn-wrong'), '', code);
		assert.equal(await browser.page.$('#ovpn-verdict'), null, code);

		if (code == 'remote')
			await browser.shoot('import-wrong');
	}

	// Servers by connection are servers.
	await paste(browser, profile('').replace(/remote .*\n/, '<connection>\nremote a.example 1195 tcp\n</connection>\n'));
	assert.equal(await browser.text('#ovpn-remotes'), 'a.example:1195 tcp-client');
	await paste(browser, 'client\n<key>\nnever ends\n');
	await browser.until(() => document.querySelector('#ovpn-create'));
	assert.ok(await browser.page.$eval('#ovpn-create', button => button.disabled), 'a broken file may be written');
	assert.ok(!(await browser.text('.ovpn-preview')).includes('never ends'));
	assert.deepEqual(rpcd.calls.filter(one => [ 'write', 'add', 'set', 'apply' ].includes(one.name)), []);
}

/** A file of another encoding, on a release whose OpenVPN is no protocol of netifd. */
async function instance({ open, browser, guest, rpcd, router }) {
	const text = `# B\u00fcro\n${profile('')}`;

	await guest.write('/etc/config/openvpn', '', '0644');
	rpcd.answers['network.get_proto_handlers'] = { static: {}, openvpn_dco: {} };
	await open('ovpn/import');
	await drop(browser, 'branch.ovpn', [ ...text ].map(letter => letter.charCodeAt(0)));
	assert.ok((await browser.text('.ovpn-preview')).startsWith('# B\u00fcro'));
	await browser.click('#ovpn-make input[value="instance"]');
	await browser.apply('#ovpn-create');
	assert.match(await guest.ok([ 'cat', '/etc/config/openvpn' ]), /config openvpn 'branch'\n\toption enabled '1'\n\toption config '\/etc\/ovpn\/branch.ovpn'\n/);
	assert.ok(!(await guest.ok([ 'cat', '/etc/config/network' ])).includes('branch'));
	assert.equal(await guest.ok([ 'cat', '/etc/ovpn/branch.ovpn' ]), text);

	const { subjects } = await router.call('diag');

	assert.ok(subjects.some(subject => subject.name == 'branch' && subject.kind == 'openvpn'), JSON.stringify(subjects));
}

/** A session with the rights of the pages alone cannot have a program started by a file. */
async function rights({ guest, rpcd }) {
	const call = (object, name, args) => rpcd.message({ id: 1, method: 'call', params: [ rpcd.session, object, name, args ] });
	const lines = [ 'up /tmp/x', 'plugin /tmp/x.so', 'script-security 2', 'config /tmp/x', 'setenv opt down /tmp/x', 'auth-user-pass /etc/shadow' ];
	const state = () => guest.ok([ 'bash', '-c', 'ls /etc/ovpn /etc/openvpn; cat /etc/config/network' ]);
	const before = await state();

	rpcd.network = false;

	for (const line of lines)
		for (const make of [ 'file', 'interface', 'instance', 'client' ]) {
			const { result: [ status, data ] } = await call('ovpnd', 'profile_import', { name: 'evil', make, text: `${profile('')}${line}\n` });

			assert.notEqual(status, 0, `${make}: ${line}`);
			assert.match(data.problems[0].text, / on line \d+, which /, `${make}: ${line}`);
		}

	// Nor can a section name one: the session writes no configuration at all.
	for (const [ name, args ] of [
		[ 'add', { config: 'network', type: 'interface', name: 'evil', values: { proto: 'openvpn', up: '/tmp/x' } } ],
		[ 'set', { config: 'network', section: 'vpn0', values: { proto: 'openvpn', script_security: '2', up: '/tmp/x' } } ],
		[ 'add', { config: 'openvpn', type: 'openvpn', name: 'evil', values: { enabled: '1', up: '/tmp/x' } } ],
		[ 'delete', { config: 'network', section: 'vpn0' } ]
	])
		assert.deepEqual((await call('uci', name, args)).result, [ 6 ], `${name} ${JSON.stringify(args)}`);

	for (const name of [ '../evil', '../../tmp/evil', 'a/b', '.evil' ]) {
		const { result: [ status ] } = await call('ovpnd', 'profile_import', { name, make: 'interface', text: profile('') });

		assert.notEqual(status, 0, name);
	}

	// Nor does it write files itself, or run them.
	for (const path of [ '/etc/openvpn/evil.ovpn', '/etc/ovpn/evil.ovpn', '/etc/openvpn/../crontabs/root.ovpn' ])
		assert.ok((await call('file', 'write', { path, data: 'up /tmp/x' })).error, path);

	assert.ok((await call('file', 'exec', { command: '/bin/sh' })).error);
	assert.equal(await state(), before);
}

export const importing = [
	[ 'import: an instance, from a file of another encoding', instance ],
	[ 'import: no program by a file', rights ],
	[ 'import: a file dropped, seen, written', good ],
	[ 'import: what the kernel does not carry', slow ],
	[ 'import: no such file', bad ]
];
