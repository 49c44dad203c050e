// SPDX-License-Identifier: GPL-2.0-only
// A tunnel that ovpnd connects by itself: from a file to the first ping against OpenVPN, its states, its dialog, its end.

import assert from 'node:assert/strict';
import { complaint, closed } from './cases-peers.mjs';

export const DIR = '/tmp/client';
export const PORT = 1199;
/* Certificates of a day for both ends, a key of tls-crypt, and OpenVPN's configuration as a server. */
export const PKI = `set -e
mkdir -p ${DIR}
cd ${DIR}
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $new -keyout ca.key -out ca.crt -days 1 -subj /CN=ca
for end in server client; do
	openssl req $new -keyout $end.key -out $end.csr -subj /CN=$end
	printf 'keyUsage=digitalSignature\\nextendedKeyUsage=%sAuth' $end > $end.ext
	openssl x509 -req -in $end.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -out $end.crt -extfile $end.ext
done
ovpnctl genkey > tc.key
printf '%s\\n' 'dev tun9' 'dev-type tun' 'port ${PORT}' 'server 10.99.0.0 255.255.255.0' 'topology subnet' 'ca ca.crt' 'cert server.crt' \
	'key server.key' 'dh none' 'tls-crypt tc.key' 'keepalive 1 4' 'push "route 10.98.0.0 255.255.255.0"' > server.conf
for block in ca:ca.crt cert:client.crt key:client.key tls-crypt:tc.key; do
	echo "<\${block%:*}>"; cat \${block#*:}; echo "</\${block%:*}>"
done > blocks
`;
const row = '[data-interface="hq"] tr[data-peer="server"]';

const serve = guest => guest.start([ 'bash', '-c', `cd ${DIR} && exec openvpn --config server.conf` ], 1);

/** Every click counts that a user needs from the page's first look to a tunnel. */
async function client({ open, browser, guest, router, rpcd, server }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);

	rpcd.network = false;
	await guest.ok([ 'bash', '-c', `(${PKI}) 2>${DIR}.log || { cat ${DIR}.log >&2; false; }` ]);
	await serve(guest);

	try {
		const text = `client\ndev tun\nproto udp\nremote 10.10.0.2 ${PORT}\nnobind\nremote-cert-tls server\n${await guest.ok([ 'cat', `${DIR}/blocks` ])}`;
		const since = Date.now();

		await open('ovpn/import');
		await browser.page.$eval('.ovpn-drop', (node, content) => {
			const data = new DataTransfer();

			data.items.add(new File([ content ], 'hq.ovpn'));
			node.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
		}, text);
		await browser.until(() => document.querySelector('#ovpn-verdict'));
		assert.equal(await browser.page.$eval('#ovpn-make input:checked', input => input.value), 'client');

		// From here on without a mouse.
		const shownAnew = browser.page.waitForNavigation({ waitUntil: 'domcontentloaded' });

		await browser.tab('#ovpn-create');
		await browser.page.keyboard.press('Enter');
		await shownAnew;
		await browser.rendered();
		assert.match(browser.page.url(), /ovpn\/overview$/);
		await router.reaches('10.99.0.1');
		console.log(`# a client, from a file to the first ping: a drop, 1 press, 0 fields, 2 page loads, ${((Date.now() - since) / 1000).toFixed(1)} s`);

		// The files are root's alone, the section is ovpnd's, and the session has written none of it.
		assert.equal(await guest.ok([ 'bash', '-c', 'stat -c "%a %n" /etc/ovpn/hq.*' ]),
			[ 'ca', 'cert', 'key', 'tls-crypt' ].map(end => `600 /etc/ovpn/hq.${end}\n`).join(''));
		assert.deepEqual(rpcd.calls.filter(one => one.object == 'uci' && ![ 'get', 'changes' ].includes(one.name)), []);

		await browser.until(selector => /up/.test(document.querySelector(selector)?.textContent), row);

		const shown = await browser.text(row);

		assert.match(shown, /for \d+[hms].*(heard|never).*AES-256-GCM.*key of/is);
		assert.match(await browser.text('[data-interface="hq"] h3'), /hq\s*up\s*OpenVPN’s protocol, by ovpnd/);
		await browser.shoot('overview-client');

		// The server is away: the state and the failure say so.
		await guest.ok([ 'pkill', '-x', 'openvpn' ]);
		await router.until('the failure', async () => (await router.call('peers', { interface: 'hq' })).peers[0].error);
		// A look at the page by itself would come five seconds later.
		await open('ovpn/overview');
		assert.match(await browser.text(`${row} .label`), /waiting|looking up|connecting|TLS handshake/);
		assert.notEqual(await browser.text('[data-fault-of="server"]'), '');
		await browser.shoot('overview-client-away');
		await browser.press('Details', row);
		await browser.until(() => /Last failure/.test(document.querySelector('.modal').textContent));
		await browser.press('Dismiss', '.modal');
		await closed(browser);

		// A stop is said, with the way back.
		await router.call('down', { interface: 'hq', reason: 'a test stopped it' });
		await open('ovpn/overview');
		assert.match(await browser.text('[data-interface="hq"]'), /Stopped: a test stopped it/);
		assert.equal(await browser.text('[data-interface="hq"] .ovpn-switch'), 'Start');
		await browser.shoot('overview-stopped');

		await dialog({ open, browser, guest, rpcd, server });
	}
	finally {
		await guest.run([ 'pkill', '-x', 'openvpn' ]);
		await router.configure(good);
		await guest.run([ 'bash', '-c', 'rm -f /etc/ovpn/hq.*' ]);
	}
}

/** Its dialog has all that the import wrote, refuses what ovpnd would, and leaves alone what is not changed. */
async function dialog({ open, browser, guest, rpcd, server }) {
	const config = async () => (await guest.ok([ 'cat', '/etc/config/network' ])).match(/config interface 'hq'\n(\t.*\n)*/)[0].split('\n').sort();
	const field = (name, kind = 'input') => `#view [data-name="${name}"] ${kind}`;
	const before = await config();
	const refuses = async (name, value, words) => {
		await browser.fill(field(name, 'input[type="text"]'), value);
		assert.match(await complaint(browser, name, '#view') ?? 'nothing', words, `${name} takes '${value}'`);
		await browser.fill(field(name, 'input[type="text"]'), '');
	};

	rpcd.forget();
	server.state.readOnly = false;
	await open('ovpn-test/protocol#hq');
	assert.equal(await browser.page.$eval(field('_kind', 'select'), node => node.value), 'client');
	assert.match(await browser.text('#view [data-name="remote"] .item'), /10\.10\.0\.2 1199 udp/);
	assert.equal(await browser.page.$eval(field('ca'), node => node.value), '/etc/ovpn/hq.ca');
	assert.ok(!await browser.page.$eval('#view [data-name="addresses"]', node => node.checkVisibility()), 'options of static keys are shown');
	await refuses('remote', 'a abc', /abc is no port/);
	await refuses('remote', 'a 1194 tcp', /UDP/);
	await refuses('remote', 'fd00::1 1194 udp6', /one protocol/);
	await browser.shoot('client');
	await browser.click('.cbi-tabmenu [data-tab="tls"] a');
	await refuses('tls_auth', '/etc/ovpn/ta.key', /tls-crypt already/);
	await refuses('peer_fingerprint', 'AB:CD', /32 pairs/);
	await browser.shoot('client-tls');
	await browser.click('.cbi-tabmenu [data-tab="advanced"] a');
	await refuses('data_ciphers', 'AES-256-CBC', /no cipher AES-256-CBC/);
	await refuses('reneg_sec', '3', /at least 5/);
	await browser.fill(field('tun_mtu'), '1400');
	await browser.apply();
	assert.deepEqual(await config(), [ ...before, "\toption tun_mtu '1400'" ].sort());
}

export const clients = [ [ 'import: ovpnd connects by itself', client ] ];
