// SPDX-License-Identifier: GPL-2.0-only
// A server from a fresh interface: its dialog, its certificates, its firewall, its clients, and their end.

import assert from 'node:assert/strict';
import { complaint, closed } from './cases-peers.mjs';

const DIR = '/etc/ovpn/home';
const FRESH = `
config interface 'home'
	option proto 'openvpn_dco'
`;
const field = (name, kind = 'input') => `#view [data-name="${name}"] ${kind}`;
const text = name => field(name, 'input[type="text"]');
const row = name => `[data-server="home"] tr[data-client="${name}"]`;

/* An interface by which there is a way to everything, as netifd tells of it. */
const way = (name, proto, metric, address) => ({ interface: name, proto, metric, up: true, 'ipv4-address': [ { address, mask: 24 } ],
	route: [ { target: '0.0.0.0', mask: 0, nexthop: '10.10.0.2', source: `${address}/32` } ] });
const there = async (guest, file) => (await guest.run([ 'test', '-e', file ])).code === 0;

/** From the dialog to a phone that pings, and to its end. */
async function server({ open, browser, guest, router, rpcd, server: web }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);

	await guest.run([ 'rm', '-rf', DIR, '/etc/config/firewall' ]);
	await router.configure(good + FRESH);

	try {
		await dialog({ open, browser, guest });
		await clients({ open, browser, guest, router, rpcd, web });
		await follows({ open, browser, guest });
	}
	finally {
		await guest.run([ 'pkill', '-x', 'openvpn' ]);
		await router.configure(good);
		await guest.run([ 'rm', '-rf', DIR, '/etc/config/firewall' ]);
	}
}

async function refuses(browser, name, value, words) {
	await browser.fill(text(name), value);
	assert.match(await complaint(browser, name, '#view') ?? 'nothing', words, `${name} takes '${value}'`);
	await browser.fill(text(name), '');
}

async function dialog({ open, browser, guest }) {
	await open('ovpn-test/protocol#home');
	await browser.page.select(field('_kind', 'select'), 'server');
	await browser.until(selector => document.querySelector(selector).checkVisibility(), text('server'));
	await refuses(browser, 'server', '', /needs a network/);
	await refuses(browser, 'server', '10.8.0.1/24', /8 to 29 bits/);
	await refuses(browser, 'server_ipv6', 'fd00::/48', /64 to 112/);
	await refuses(browser, '_routes', '10.98.0.1/24', /no network of that length/);
	await refuses(browser, '_dns', 'dns.example', /IP address/);
	await browser.fill(text('server'), '10.97.0.0/24');
	await browser.fill(text('port'), '1195');
	await browser.add(text('_routes'), '10.98.0.0/24');
	await browser.add(text('_dns'), '10.97.0.1');
	await browser.until(() => /No rule of the firewall/.test(document.querySelector('#view [data-name="_firewall"]').textContent));
	await browser.shoot('server');

	// Both buttons promise; nothing is there before Save.
	await browser.click('#view .ovpn-ca');
	await browser.click('#view .ovpn-open');
	assert.equal(await browser.page.$eval(field('ca'), node => node.value), `${DIR}/ca.crt`);
	assert.equal(await there(guest, DIR), false, 'certificates before Save');
	await browser.apply();

	const config = (await guest.ok([ 'cat', '/etc/config/network' ])).match(/config interface 'home'\n(\t.*\n)*/)[0];

	for (const line of [ "option server '10.97.0.0/24'", "option port '1195'", `option key '${DIR}/server.key'`, `option crl_verify '${DIR}/crl.pem'`,
		"list push 'route 10.98.0.0 255.255.255.0'", "list push 'dhcp-option DNS 10.97.0.1'" ])
		assert.ok(config.includes(line), `${line} is not in\n${config}`);

	assert.doesNotMatch(config, /option (client|_\w+) /);
	assert.match(await guest.ok([ 'cat', '/etc/config/firewall' ]), /config rule 'ovpn_home'\n(\t.*\n)*\toption dest_port '1195'/);
	assert.equal(await guest.ok([ 'stat', '-c', '%a', DIR, `${DIR}/ca.key` ]), '700\n600\n');

	// The page says which kind it is now.
	await open('ovpn-test/protocol#home');
	assert.equal(await browser.page.$eval(field('_kind', 'select'), node => node.value), 'server');
	assert.match(await browser.text('#view [data-name="_routes"] .item'), /10\.98\.0\.0\/24/);
	await browser.until(() => /lets clients in/.test(document.querySelector('#view [data-name="_firewall"]').textContent));
	assert.match(await browser.text('#view [data-name="_certificates"]'), /There are certificates/);
}

async function clients({ open, browser, guest, router, rpcd, web }) {
	// With the rights of our own list alone.
	rpcd.network = false;
	rpcd.answers = { 'network.interface.dump': { interface: [ way('tun', 'openvpn_dco', 0, '10.8.0.1'), way('lte', 'dhcp', 20, '10.11.0.1'),
		way('wan', 'dhcp', 10, '10.10.0.1'), { ...way('lan', 'static', 0, '192.168.1.1'), route: [] } ] } };
	await open('ovpn/clients');
	assert.match(await browser.text('[data-server="home"]'), /udp 1195.*10\.97\.0\.0\/24.*days left.*No clients/s);

	// Without a mouse.
	await browser.tab('.ovpn-add-client');
	await browser.page.keyboard.press('Enter');
	await browser.fill('#ovpn-client-name input', 'a b');
	assert.match(await browser.page.$eval('#ovpn-client-name input', node => node.dataset.tooltip), /letters/);
	await browser.fill('#ovpn-client-name input', 'anna');
	assert.equal(await browser.page.$eval('#ovpn-client-remote input', node => node.value), '10.10.0.1', 'the address of the WAN');
	await browser.shoot('clients-add');
	await browser.click('#ovpn-client-make');
	await closed(browser);
	await browser.until(selector => document.querySelector(selector), row('anna'));
	await browser.until(() => window.downloads.length);

	const [ profile ] = await browser.page.evaluate(() => window.downloads);

	// Not by its text, which has a key.
	assert.ok(/^client\ndev tun\nremote 10\.10\.0\.1 1195 udp\n/.test(profile), 'the profile begins in another way');
	// The browser shows nothing of the key, and the router keeps none.
	assert.ok(!await browser.page.evaluate(() => document.documentElement.outerHTML.includes('PRIVATE KEY')), 'a key in the page');
	assert.equal((await guest.run([ 'grep', '-r', 'PRIVATE KEY', `${DIR}/clients` ])).code, 1, 'a key on the router');

	await guest.write('/tmp/anna.ovpn', profile);
	await guest.start([ 'openvpn', '--config', '/tmp/anna.ovpn' ], 1);
	await router.until('the client', async () => (await guest.run([ 'ping', '-n', '-q', '-c', '1', '-W', '1', '10.97.0.1' ], { ns: 1 })).code === 0);
	await open('ovpn/clients');
	await browser.until(selector => /up/.test(document.querySelector(selector).textContent), row('anna'));
	assert.match(await browser.text(row('anna')), /anna.*up.*for \d+[hms].*10\.97\.0\.2.*10\.10\.0\.2.*days left/s);
	await browser.shoot('clients');
	web.state.language = 'de';
	await open('ovpn/clients');
	assert.match(await browser.text('h2'), /Clients der Server/);
	web.state.language = 'en';

	// A session that may only look has no buttons.
	web.state.readOnly = rpcd.readOnly = true;
	await open('ovpn/clients');
	await browser.until(selector => document.querySelector(selector), row('anna'));
	assert.deepEqual(await browser.page.$$eval('#ovpn-servers button', all => all.filter(one => !one.disabled).map(one => one.textContent)), []);
	web.state.readOnly = rpcd.readOnly = false;

	await open('ovpn/clients');
	await browser.until(selector => document.querySelector(selector), `${row('anna')} .ovpn-revoke`);

	// No is no.
	await browser.click(`${row('anna')} .ovpn-revoke`);
	await browser.until(selector => !document.querySelector(selector).disabled, `${row('anna')} .ovpn-revoke`);
	assert.match(browser.asked.at(-1), /Revoke the certificate of anna/);
	assert.equal((await router.call('ca_list', { interface: 'home' })).clients[0].revoked, false);
	browser.answer = true;
	await browser.click(`${row('anna')} .ovpn-revoke`);
	await browser.until(selector => /revoked/.test(document.querySelector(selector).textContent), row('anna'));
	await router.until('the end of the session', async () => (await router.call('peers', { interface: 'home' })).total === 0);
	assert.match(await browser.text('[data-server="home"] .ovpn-said'), /anna was revoked/);
	browser.answer = false;
	rpcd.network = true;
}

/** The rule of the firewall follows the port. */
async function follows({ open, browser, guest }) {
	await open('ovpn-test/protocol#home');
	await browser.fill(text('port'), '1196');
	await browser.apply();
	assert.match(await guest.ok([ 'cat', '/etc/config/firewall' ]), /config rule 'ovpn_home'\n(\t.*\n)*\toption dest_port '1196'/);
}

export const servers = [ [ 'server: from a fresh interface to a phone, and its end', server ] ];
