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
</ca>
<key>
-----BEGIN PRIVATE KEY-----
${SECRET}
-----END PRIVATE KEY-----
</key>
`;

async function drop(browser, name, text) {
	await browser.page.$eval('.ovpn-drop', (node, file, content) => {
		const data = new DataTransfer();

		data.items.add(new File([ content ], file));
		node.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
	}, name, text);
	await browser.until(() => document.querySelector('#ovpn-verdict'));
}

async function paste(browser, text) {
	await browser.page.$eval('#ovpn-text', (node, value) => { node.value = value; }, text);
	await browser.click('#ovpn-check');
	await browser.until(() => document.querySelector('#ovpn-import-preview').children.length);
}

/** A dropped file that the kernel takes: seen first, then written, and no key is shown. */
async function good({ open, browser, guest, rpcd, router }) {
	await open('ovpn/import');
	await drop(browser, 'My Office (2).ovpn', profile('auth-user-pass'));
	assert.match(await browser.text('#ovpn-verdict'), /The kernel can carry/);
	assert.equal(await browser.text('#ovpn-remotes'), 'vpn.example.org:1194 udp');
	assert.equal(await browser.text('#ovpn-inline'), 'ca, key');
	assert.ok(!(await browser.text('#ovpn-import-preview')).includes(SECRET), 'the preview shows the key');
	assert.deepEqual(rpcd.calls.filter(one => [ 'write', 'add', 'set', 'apply' ].includes(one.name)), []);
	assert.equal(await browser.page.$eval('#ovpn-name input', node => node.value), 'my_office_2');
	await browser.shoot('import');

	await browser.fill('#ovpn-name input', 'vpn0');
	await browser.click('#ovpn-create');
	assert.ok(await browser.page.$('#ovpn-name .cbi-input-invalid'), 'the name of another interface is taken');
	await browser.fill('#ovpn-name input', 'office');
	await browser.fill('#ovpn-user input', 'anna');
	await browser.fill('#ovpn-password input', 'geheim');
	await browser.apply('#ovpn-create');

	const config = await guest.ok([ 'cat', '/etc/config/network' ]);

	assert.match(config, /config interface 'office'\n\toption proto 'openvpn'\n\toption config '\/etc\/openvpn\/office.ovpn'\n\toption auth_user_pass '\/etc\/openvpn\/office.auth'\n/);
	assert.ok(!config.includes('geheim'));
	assert.equal(await guest.ok([ 'cat', '/etc/openvpn/office.ovpn' ]), profile('auth-user-pass'));
	assert.equal(await guest.ok([ 'cat', '/etc/openvpn/office.auth' ]), 'anna\ngeheim\n');
	assert.equal(await guest.ok([ 'stat', '-c', '%a', '/etc/openvpn/office.ovpn', '/etc/openvpn/office.auth' ]), '600\n600\n');

	// The daemon goes on with its own, and knows the new one.
	const { subjects } = await router.call('diag');

	assert.ok(subjects.some(subject => subject.name == 'office' && subject.kind == 'openvpn'), JSON.stringify(subjects));
	await router.reaches('10.8.0.2');
}

/** One that the kernel does not take: the reasons with their lines and remedies. */
async function slow({ open, browser, router }) {
	const text = profile('comp-lzo yes\nfragment 1300').replace('dev tun', 'dev tap') + 'cert client.crt\n';
	const { findings } = await router.call('lint', { text });

	await open('ovpn/import');
	await paste(browser, text);
	assert.match(await browser.text('#ovpn-verdict'), /cannot carry/);
	assert.ok([ 'tap', 'comp', 'fragment' ].every(code => findings.some(finding => finding.code == code)), JSON.stringify(findings));

	for (const finding of findings) {
		const shown = await browser.text(`.ovpn-finding[data-code="${finding.code}"]`);

		assert.ok(shown.includes(finding.text) && shown.includes(finding.remedy), shown);
		assert.ok(!finding.line || shown.includes(`line ${finding.line}`), shown);
	}

	assert.match(await browser.text('.ovpn-finding[data-code="external-file"]'), /client\.crt/);
	await browser.shoot('import-slow');
}

/** What is no such file at all. */
async function bad({ open, browser, rpcd }) {
	await open('ovpn/import');
	await browser.click('#ovpn-check');
	await browser.until(() => /no text/.test(document.querySelector('#ovpn-import-preview').textContent));
	await paste(browser, 'client\n<key>\nnever ends\n');
	await browser.until(() => document.querySelector('#ovpn-create'));
	assert.ok(await browser.page.$eval('#ovpn-create', button => button.disabled), 'a broken file may be written');
	assert.ok(!(await browser.text('.ovpn-preview')).includes('never ends'));
	await browser.page.$eval('.ovpn-drop', node => {
		const data = new DataTransfer();

		data.items.add(new File([ 'x'.repeat(300 * 1024) ], 'big.ovpn'));
		node.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
	});
	await browser.until(() => /too big/.test(document.querySelector('#ovpn-import-preview').textContent));
	assert.deepEqual(rpcd.calls.filter(one => [ 'write', 'add', 'set', 'apply' ].includes(one.name)), []);
}

export const importing = [
	[ 'import: a file dropped, seen, written', good ],
	[ 'import: what the kernel does not carry', slow ],
	[ 'import: no such file', bad ]
];
