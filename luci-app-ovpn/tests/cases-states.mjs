// SPDX-License-Identifier: GPL-2.0-only
// Routers that are not as one wishes: with more peers than a page holds, with none, without daemon, broker or driver.

import assert from 'node:assert/strict';
import { peersTab } from './cases-peers.mjs';

const here = code => document.querySelector(`[data-code="${code}"]`);
const tunnel = () => document.querySelector('[data-interface="vpn0"]');

/** With more peers than a page has room for, each is on one; long names and addresses fit on every screen. */
async function many({ open, browser, router, guest }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);
	const names = Array.from({ length: 52 }, (none, index) => `m${index + 10}`);
	const peer = (name, id, host, ip, more = '') => `
config openvpn_dco_${more ? 'vpn_ipv6_at_hom' : 'vpn0'} '${name}'
	option peer_id '${id}'
	option endpoint_host '${host}'
	list vpn_ip '${ip}'
	option key_file '/etc/ovpn/many/${name}'
	option key_direction '0'
	option insecure_static_key '1'
${more}`;
	const long = 'a_peer_whose_name_is_as_long_as_a_name_of_a_section_can_be_64_ch';
	const wide = `
config interface 'vpn_ipv6_at_hom'
	option proto 'openvpn_dco'
	option transport 'udp6'
	option local_port '65535'
	list addresses 'fd00:1234:5678:9abc:def0:1234:5678:9abc/64'
	option cipher 'chacha20-poly1305'
` + peer(long, 16777215, '2001:db8:1234:5678:9abc:def0:1234:5678', 'fd00:1234:5678:9abc:def0:1234:5678:9abd', `	option endpoint_port '65535'
	option description 'The office in Friedrichshafen, second floor, behind the provider-router-of-the-landlord'
`);

	await guest.ok([ 'bash', '-c', `mkdir -p /etc/ovpn/many; umask 077; for name in ${names.join(' ')} ${long}; do ovpnctl genkey > /etc/ovpn/many/$name; done` ]);

	try {
		const text = good + names.map(name => peer(name, name.slice(1), '10.10.0.9', `10.8.1.${name.slice(1)}`)).join('') + wide;

		assert.deepEqual((await router.configure(text)).problems ?? [], []);

		const page = await open('ovpn/overview');
		const shown = () => page.$$eval('[data-interface="vpn0"] tr[data-peer]', rows => rows.map(row => row.dataset.peer));
		const first = await shown();

		assert.equal(first.length, 50);
		assert.match(await browser.text('.ovpn-pager'), /1 to 50 of 53/);
		await browser.press('Next');
		await browser.until(() => /51 to 53 of 53/.test(document.querySelector('.ovpn-pager').textContent));

		const second = await shown();

		assert.deepEqual([ ...first, ...second ].sort(), [ 'alice', ...names ].sort());
		// No host answers there.
		assert.match(await browser.text('tr[data-peer="m61"]'), /not heard yet\s*never/);
		assert.match(await browser.text(`tr[data-peer="${long}"]`), /\[2001:db8:1234:5678:9abc:def0:1234:5678\]:65535/);
		await browser.shoot('overview-many');
		await browser.press('Previous');
		await browser.until(() => /1 to 50/.test(document.querySelector('.ovpn-pager').textContent));
		await peersTab({ open, browser });
		await browser.shoot('peers-many');
	}
	finally {
		await router.configure(good);
	}
}

/** A router without a tunnel: each page says where one is made. */
async function none({ open, browser, router, guest }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);
	const ways = () => browser.page.$$eval('#view .ovpn-empty a', links => links.map(link => new URL(link.href).pathname.replace(/.*\/admin\//, '')));

	await router.configure("config interface 'lan'\n\toption proto 'static'\n");

	try {
		await open('ovpn/overview');
		assert.match(await browser.text('.ovpn-empty'), /no tunnels/);
		assert.deepEqual(await ways(), [ 'network/network', 'vpn/ovpn/import' ]);
		await browser.shoot('overview-none');
		await open('ovpn-test/widget');
		assert.equal(await browser.page.$('.ovpn-status'), null);

		// One that somebody else makes on the driver is shown, as theirs.
		await guest.ok([ 'ip', 'link', 'add', 'tun7', 'type', 'ovpn' ]);
		await router.until('the tunnel of another', async () => (await router.call('status')).interfaces.length);
		await open('ovpn/overview');
		assert.match(await browser.text('[data-interface="tun7"]'), /tun7.*made by OpenVPN.*No peers/s);
	}
	finally {
		await guest.run([ 'ip', 'link', 'delete', 'tun7' ]);
		await router.configure(good);
	}
}

/** Without the daemon each page says so; the overview comes back with it, and with the broker. */
async function daemon({ open, browser, guest, router }) {
	await open('ovpn/overview');
	await guest.ok([ 'pkill', '-x', '-o', 'ovpnd' ]);
	await browser.until(() => document.querySelector('[data-code="no-daemon"]') && !document.querySelector('[data-interface]'));
	await browser.shoot('overview-no-daemon');

	await open('ovpn/import');
	assert.match(await browser.text('[data-code="no-daemon"] .ovpn-remedy'), /init\.d\/ovpnd start/);
	await browser.page.$eval('#ovpn-text', node => { node.value = 'client\n'; });
	await browser.click('#ovpn-check');
	await browser.until(() => /ovpnd does not answer/.test(document.querySelector('#ovpn-wrong').textContent));

	// The first of the two brokers is that of the pages.
	await router.startDaemon();
	await guest.ok([ 'pkill', '-x', '-o', 'ubusd' ]);
	await open('ovpn/overview');
	assert.ok(await browser.page.evaluate(here, 'no-daemon'));
	await router.startBroker();
	await browser.until(tunnel);
	assert.equal(await browser.page.evaluate(here, 'no-daemon'), null);
}

/** Without the driver the page says what to install, and the tunnel comes up when it is there. */
async function driver({ open, browser, guest, router }) {
	await guest.ok([ 'pkill', '-x', 'ovpnd' ]);

	for (const ns of [ 0, 1 ])
		await router.until('no interface', async () => {
			const links = JSON.parse(await guest.ok([ 'ip', '-j', 'link', 'show', 'type', 'ovpn' ], { ns })).filter(link => link.ifname);

			for (const { ifname } of links)
				await guest.run([ 'ip', 'link', 'delete', ifname ], { ns });

			return !links.length;
		});

	// The kernel would load its own instead.
	const helper = (await guest.ok([ 'cat', '/proc/sys/kernel/modprobe' ])).trim();
	const helped = program => guest.ok([ 'bash', '-c', `echo ${program} > /proc/sys/kernel/modprobe` ]);

	await helped('/bin/false');
	await guest.module(false);

	try {
		await router.startDaemon();
		await router.until('what ovpnd says', async () => (await router.call('status')).interfaces?.[0]?.state == 'error');
		await open('ovpn-test/widget');
		assert.match(await browser.text('.ovpn-status'), /vpn0\s*error\s*\S.*0 of 1 in the kernel/s);
		await browser.shoot('widget-error');
		await open('ovpn/overview');
		await browser.until(here, 'module-missing');
		assert.match(await browser.text('[data-code="module-missing"] .ovpn-remedy'), /kmod-ovpn/);
		assert.match(await browser.text('#ovpn-driver'), /Driver\s*not loaded/);
		assert.match(await browser.text('[data-interface="vpn0"] h3'), /vpn0\s*error/);
		assert.match(await browser.text('tr[data-peer="alice"]'), /down/);
		assert.equal((await browser.page.$$('.ovpn-finding')).length, 1, 'one cause is one message');
		await browser.shoot('overview-no-driver');
	}
	finally {
		await guest.module(true);
		await helped(helper);
		await router.startOther();
	}

	await browser.until(() => /vpn0\s*up/.test(document.querySelector('[data-interface="vpn0"] h3').textContent));
	await router.reaches('10.8.0.2');
}

export const states = [
	[ 'overview and peers: more than a page', many ],
	[ 'no tunnel', none ],
	[ 'no daemon, no broker', daemon ],
	[ 'no driver', driver ]
];
