// SPDX-License-Identifier: GPL-2.0-only
// The protocol: its options by themselves, and, where LuCI is, its page Network > Interfaces.

import assert from 'node:assert/strict';
import { closed, complaint } from './cases-peers.mjs';
import { LUCI } from './server.mjs';

const field = (name, kind = 'input') => `[data-name="${name}"] ${kind}`;
const tab = (browser, words) => browser.page.$$eval('.cbi-tabmenu a', (links, text) =>
	links.filter(link => link.checkVisibility()).find(link => link.textContent.trim().startsWith(text)).click(), words);

/** Another interface, which has port 1200. */
const OTHER = `
config interface 'vpn7'
	option proto 'openvpn_dco'
	option local_port '1200'
`;

/** The options of the interface, filled as on LuCI's page; what ovpnd would refuse, each field does. */
async function protocol({ open, browser, guest, router }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);

	await router.configure(good + OTHER);

	try {
		await open('ovpn-test/protocol');
		await browser.shoot('protocol');
		await refuses(browser, '#view', [
			[ 'local_port', '70000', '1194', /./ ],
			[ 'local_port', '1200', '1194', /vpn7 has this port/ ]
		]);
		await browser.add(field('addresses', 'input[type="text"]'), '10.8.0/24');
		assert.match(await complaint(browser, 'addresses', '#view') ?? 'nothing', /prefix length/);
		await browser.fill(field('addresses', 'input[type="text"]'), '');
		await browser.page.select(field('transport', 'select'), 'tcp');
		await browser.until(() => document.querySelector('[data-name="transport"] .cbi-input-invalid'));
		await browser.page.select(field('transport', 'select'), 'udp');
		await tab(browser, 'Advanced');
		await refuses(browser, '#view', [ [ 'mtu', '67', '1300', /./ ], [ 'fwmark', '0xzz', '', /32 bits/ ] ]);
		await browser.apply();

		const [ link ] = JSON.parse(await guest.ok([ 'ip', '-j', 'link', 'show', 'vpn0' ]));

		assert.equal(link.mtu, 1300, 'MTU in the kernel');
		assert.match(await guest.ok([ 'cat', '/etc/config/network' ]), /option mtu '1300'/);
		await router.reaches('10.8.0.2');
	}
	finally {
		await router.configure(good);
	}
}

/** Each field says what is wrong with a value, and takes a right one. */
async function refuses(browser, scope, list) {
	for (const [ name, wrong, right, words ] of list) {
		await browser.fill(`${scope} ${field(name)}`, wrong);
		assert.match(await complaint(browser, name, scope) ?? 'nothing', words, `${name} takes '${wrong}'`);
		await browser.fill(`${scope} ${field(name)}`, right);
		assert.equal(await complaint(browser, name, scope), null, `${name} does not take '${right}'`);
	}
}

/** netifd's status of an interface that the protocol's handler has set up, or has not. */
const told = (name, more) => ({
	interface: name, proto: 'openvpn_dco', up: true, pending: false, available: true, autostart: true, dynamic: false, l3_device: name,
	uptime: 61, 'ipv4-address': [ { address: '10.8.0.1', mask: 24 } ], 'ipv6-address': [], data: {}, ...more
});

/** LuCI's own page: shows the interface with its device, changes it, makes another one, and deletes that. */
async function page({ open, browser, guest, router, rpcd }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);
	const line = name => `tr[data-sid="${name}"]`;
	const config = () => guest.ok([ 'cat', '/etc/config/network' ]);

	rpcd.network = true;
	rpcd.answers = {
		'network.get_proto_handlers': { openvpn_dco: { no_device: true }, static: {} },
		'network.interface.dump': { interface: [ told('vpn0'), told('vpn8', { up: false, errors: [ { subsystem: 'vpn8', code: 'SETUP_FAILED' } ] }) ] },
		'luci-rpc.getNetworkDevices': { vpn0: { name: 'vpn0', up: true, devtype: 'tunnel', type: 65534, mtu: 1416, stats: { rx_bytes: 1, rx_packets: 1, tx_bytes: 1, tx_packets: 1 } } }
	};

	try {
		await router.configure(good + OTHER.replace('vpn7', 'vpn8'));
		await open('network/network');
		await browser.until(() => /OpenVPN in the kernel/.test(document.querySelector('tr[data-sid="vpn0"]')?.textContent));
		await browser.until(() => /VPN > OpenVPN \(kernel\) tells why/.test(document.querySelector('tr[data-sid="vpn8"]').textContent));
		assert.match(await browser.text(`${line('vpn0')} .ifacebox-body`), /vpn0/);
		await browser.shoot('interfaces', false);

		// One that is there.
		await browser.press('Edit', line('vpn0'));
		await browser.until(() => document.querySelector('.modal [data-name="local_port"] input'));
		assert.equal(await browser.page.$eval('.modal [data-name="_net_device"]', node => node.checkVisibility()).catch(() => false), false);
		await refuses(browser, '.modal', [ [ 'local_port', '1200', '1194', /vpn8 has this port/ ] ]);
		await browser.shoot('interfaces-edit', false);
		await tab(browser, 'Advanced');
		await refuses(browser, '.modal', [ [ 'mtu', '70000', '1290', /./ ] ]);
		await browser.press('Save', '.modal');
		await closed(browser);
		await browser.apply();
		assert.match(await config(), /option mtu '1290'/);
		assert.equal(JSON.parse(await guest.ok([ 'ip', '-j', 'link', 'show', 'vpn0' ]))[0].mtu, 1290, 'MTU in the kernel');

		// A new one.
		await browser.until(() => document.querySelector('tr[data-sid="vpn0"]'));
		await browser.press('Add new interface...');
		await browser.until(() => document.querySelector('.modal [data-name="proto"] select'));
		await browser.fill('.modal [data-name="name"] input', 'vpn7');
		await browser.page.select('.modal [data-name="proto"] select', 'openvpn_dco');
		await browser.press('Create interface', '.modal');
		await browser.page.waitForSelector('.modal [data-name="_kind"] select', { visible: true });
		await browser.page.select('.modal [data-name="_kind"] select', 'static');
		await browser.until(() => document.querySelector('.modal [data-name="local_port"] input'));
		await browser.fill('.modal [data-name="local_port"] input', '1201');
		await browser.add('.modal [data-name="addresses"] input[type="text"]', '10.9.0.1/24');
		await browser.press('Save', '.modal');
		await closed(browser);
		await browser.apply();
		assert.match(await config(), /config interface 'vpn7'\n\toption proto 'openvpn_dco'\n(\t.*\n)*\toption local_port '1201'/);
		assert.match(await guest.ok([ 'ip', 'address', 'show', 'vpn7' ]), /10\.9\.0\.1\/24/);

		await browser.until(() => document.querySelector('tr[data-sid="vpn7"]'));
		await browser.press('Delete', line('vpn7'));
		await browser.until(() => !document.querySelector('tr[data-sid="vpn7"]'));
		await browser.apply();
		assert.notEqual((await guest.run([ 'ip', 'link', 'show', 'vpn7' ])).code, 0, 'vpn7 is still there');
		await router.reaches('10.8.0.2');
	}
	finally {
		await router.configure(good);
	}
}

export const interfaces = [
	[ 'protocol page', protocol ],
	[ 'Network > Interfaces', page, LUCI ]
];
