// SPDX-License-Identifier: GPL-2.0-only
// The cases: [name, async ({ open, browser, router, rpcd, guest, server }), what it cannot run without].

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { editing, peersTab } from './cases-peers.mjs';
import { importing } from './cases-import.mjs';
import { answers } from './cases-answer.mjs';
import { clients } from './cases-client.mjs';
import { figures } from './cases-figures.mjs';
import { servers } from './cases-server.mjs';
import { states } from './cases-states.mjs';
import { interfaces } from './cases-interfaces.mjs';
import { keyboards } from './cases-keyboard.mjs';
import { APP, LUCI, LUCI_SRC, find } from './server.mjs';

const row = peer => `[data-interface="vpn0"] tr[data-peer="${peer}"]`;

/** Every line of a tunnel's peer is what the kernel says. */
async function overview({ open, browser, router, guest, rpcd }) {
	await guest.start([ 'ping', '-q', '-i', '0.1', '-s', '1000', '-w', '60', '10.8.0.2' ]);

	await open('ovpn/overview');

	const driver = await browser.text('#ovpn-driver');
	const status = await router.call('status');

	assert.match(driver, new RegExp(`kmod-ovpn ${status.kernel.module_version}`));
	assert.match(await browser.text('[data-interface="vpn0"] h3'), /vpn0\s*up\s*static key/);

	const peer = await router.peer('alice');
	const text = await browser.text(row('alice'));

	assert.match(text, /Alice, at home/);
	assert.ok(text.includes(peer.remote) && text.includes(peer.cipher), text);
	assert.equal(await browser.text(`${row('alice')} .ovpn-engine`), peer.engine);
	assert.match(await browser.text(`${row('alice')} .ovpn-seen`), /ago/);

	// Look after look, every five seconds, the totals grow: 10 pings of 1 KiB in a second are about 82 kbit/s a way.
	const first = await browser.text(`${row('alice')} .ovpn-total`);

	// The focused element keeps the focus while the numbers around it change.
	await browser.tab('[aria-label="Details of alice"]');

	const between = await router.until('two looks of the poll', () => {
		const looks = rpcd.calls.filter(one => one.object == 'ovpnd' && one.name == 'status').map(one => one.at);

		// LuCI's first one comes at once.
		return [ looks.at(-1) - looks.at(-2) ].find(gap => gap > 2500);
	});

	assert.ok(between > 4500 && between < 9000, `${between} ms between two looks`);
	await browser.until((selector, old) => document.querySelector(selector).textContent != old, `${row('alice')} .ovpn-total`, first);
	await browser.until(() => document.querySelector('polyline.ovpn-rx').getAttribute('points'));

	// One more may be dropped between a look and the question.
	await router.until('the drops on the page', async () =>
		await browser.text(`${row('alice')} .ovpn-dropped`) == Object.values((await router.peer('alice')).drops).reduce((a, b) => a + b, 0));

	const rate = await browser.text('.ovpn-now .ovpn-rx');
	const [ , number, unit ] = rate.match(/([0-9.]+) ([KM]?)bit/);
	const bits = number * { '': 1, K: 1e3, M: 1e6 }[unit];

	assert.ok(bits > 20e3 && bits < 500e3, rate);
	await browser.shoot('overview');

	await browser.page.keyboard.press('Enter');
	await browser.until(() => document.querySelector('.modal .ovpn-details'));
	assert.ok((await browser.text('.modal')).includes(peer.key_fingerprint));
	await browser.shoot('overview-details');
	await browser.press('Dismiss', '.modal');
	await browser.until(() => !document.body.classList.contains('modal-overlay-active'));
}

/** The overview names the obstacle between a tunnel and the kernel, with its remedy. */
async function findings({ open, browser, router, guest }) {
	await guest.write('/etc/config/openvpn', "config openvpn 'office'\n\toption enabled '1'\n\toption dev 'tun'\n\toption fragment '1300'\n\toption remote 'vpn.example.org'\n", '0644');

	try {
		const { subjects } = await router.call('diag');
		const wanted = subjects.flatMap(subject => subject.findings);

		assert.ok(wanted.some(finding => finding.code == 'fragment'), JSON.stringify(subjects));
		await open('ovpn/overview');

		for (const finding of wanted) {
			const shown = await browser.text(`.ovpn-finding[data-code="${finding.code}"]`);

			assert.ok(shown.includes(finding.text) && shown.includes(finding.remedy), shown);
		}

		await browser.shoot('overview-findings');
	}
	finally {
		await guest.ok([ 'rm', '/etc/config/openvpn' ]);
	}
}

/** A fault in the configuration is said with its file and line, and the rest goes on. */
async function problems({ open, browser, router, guest }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);

	await guest.write('/etc/config/network', good.replace("option cipher 'aes-256-gcm'", "option cipher 'rot13'"), '0644');
	await router.call('reload');

	try {
		const [ problem ] = (await router.call('interfaces', { interface: 'vpn0' })).interfaces[0].problems;

		await open('ovpn/overview');
		assert.ok((await browser.text('[data-interface="vpn0"] .ovpn-finding')).includes(problem.text));
		assert.match(problem.text, /network:\d+:.*cipher/);
	}
	finally {
		await guest.write('/etc/config/network', good, '0644');
		await router.call('reload');
	}
}

async function disconnect({ open, browser, router }) {
	const before = (await router.peer('alice')).losses;

	await open('ovpn/overview');
	await browser.click(`${row('alice')} .ovpn-disconnect`);
	await router.until('the loss', async () => (await router.peer('alice')).losses > before);
	await router.until('the peer in the kernel', async () => (await router.kernel()).has(1));
	await router.reaches('10.8.0.2');
}

/** Every page of the menu exists, and the access list names the users that may see it. */
async function menu({ rpcd, server }) {
	const file = (...parts) => fs.readFileSync(path.join(APP, ...parts), 'utf8');
	const entries = Object.entries(JSON.parse(file('root/usr/share/luci/menu.d/luci-app-ovpn.json')));
	const lists = Object.keys(JSON.parse(file('root/usr/share/rpcd/acl.d/luci-app-ovpn.json')));

	for (const [ address, { action, depends } ] of entries) {
		if (action.type == 'view')
			assert.ok(find(`/luci-static/resources/view/${action.path}.js`), address);

		assert.ok((depends?.acl ?? []).every(name => lists.includes(name)), address);
	}

	// The page of peers that was is where the peers are now.
	const old = await fetch(`${server.address}vpn/ovpn/peers`, { redirect: 'manual' });

	assert.match(`${old.status} ${old.headers.get('location')}`, /^302 .*\/admin\/network\/network$/);

	// Least privilege: each call that the list allows is one that a page makes, and the other way round.
	const declared = [ ...file('htdocs/luci-static/resources/ovpn/api.js').matchAll(/object: 'ovpnd', method: '(\w+)'/g) ].map(match => match[1]);
	const allowed = rpcd.lists.flatMap(list => [ list.read, list.write ]).flatMap(rights => rights.ubus.ovpnd);

	assert.deepEqual(allowed.sort(), declared.sort());
}

async function widget({ open, browser }) {
	await open('ovpn-test/widget');
	assert.match(await browser.text('.ovpn-status'), /vpn0\s*up\s*1 of 1 in the kernel/);
	await browser.shoot('widget');
}

/** Calls that the access list does not name are refused, to the page too. */
async function forbidden({ open, browser, rpcd, server, guest }) {
	// The rights of our list alone, beside those of everyone.
	rpcd.network = false;

	const page = await open('ovpn/overview');
	const call = (...params) => page.evaluate(async (session, rest) => {
		const answer = await fetch('/ubus/', { method: 'POST', body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'call',
			params: [ session, ...rest ] }) });

		return answer.json();
	}, rpcd.session, params);
	const denied = answer => answer.error?.code == -32002 || answer.result?.[0] == 6;

	for (const params of [
		[ 'ovpnd', 'peer_add', {} ], [ 'ovpnd', 'peer_set', {} ], [ 'ovpnd', 'peer_del', {} ], [ 'ovpnd', 'reload', {} ],
		[ 'uci', 'get', { config: 'dropbear' } ], [ 'uci', 'set', { config: 'firewall', section: 'a', values: {} } ],
		[ 'uci', 'set', { config: 'network', section: 'lan', values: { proto: 'openvpn', up: '/tmp/x' } } ],
		[ 'uci', 'add', { config: 'network', type: 'interface', values: { proto: 'pppoe', pppd_options: 'plugin /tmp/x.so' } } ],
		[ 'uci', 'add', { config: 'openvpn', type: 'openvpn', values: { enabled: '1', up: '/tmp/x' } } ],
		[ 'uci', 'set', { config: 'openvpn', section: 'a', values: { up: '/tmp/x' } } ], [ 'ovpnd', 'up', {} ], [ 'ovpnd', 'down', {} ],
		[ 'file', 'write', { path: '/etc/passwd', data: 'x' } ], [ 'file', 'write', { path: '/etc/ovpn/alice.key', data: 'x' } ],
		[ 'file', 'read', { path: '/etc/ovpn/alice.key' } ], [ 'file', 'exec', { command: '/bin/sh' } ]
	])
		assert.ok(denied(await call(...params)), `allowed: ${JSON.stringify(params)}`);

	assert.ok(!denied(await call('ovpnd', 'status', {})));
	rpcd.readOnly = server.state.readOnly = true;

	for (const params of [ [ 'ovpnd', 'key_generate', { file: 'x.key' } ], [ 'ovpnd', 'peer_disconnect', { interface: 'vpn0', peer: 'alice' } ],
		[ 'file', 'write', { path: '/etc/openvpn/x.ovpn', data: 'x' } ], [ 'uci', 'set', { config: 'network', section: 'vpn0', values: {} } ] ])
		assert.ok(denied(await call(...params)), `allowed to one who may only read: ${JSON.stringify(params)}`);

	assert.equal((await guest.run([ 'ls', '/etc/ovpn/x.key', '/etc/openvpn/x.ovpn' ])).out, '');

	// The pages show such a user what there is, and no button that would fail.
	rpcd.calls = [];
	await open('ovpn/overview');
	assert.ok(await browser.page.$eval('.ovpn-disconnect', button => button.disabled));
	await open('ovpn/import');
	assert.deepEqual(rpcd.calls.filter(one => one.denied), []);
}

async function german({ open, browser, server }) {
	server.state.language = 'de';
	await open('ovpn/overview');
	assert.equal(await browser.text('h2'), 'OpenVPN-Tunnel');
	assert.match(await browser.text('[data-interface="vpn0"]'), /Gegenstellen.*1 von 1 im Kernel/s);
	await browser.shoot('overview-german');
}

/** Colours are the theme's own, in each of them and in the dark. */
async function themes({ open, browser, server }) {
	for (const [ theme, dark, name ] of [ [ 'bootstrap', true, '--primary-color-high' ], [ 'material', false, '--main-color' ] ]) {
		Object.assign(server.state, { theme, dark });
		await open('ovpn/overview');

		const [ wanted, line ] = await browser.page.evaluate(colour => {
			const probe = document.body.appendChild(document.createElement('i'));

			probe.style.color = `var(${colour}, transparent)`;

			return [ getComputedStyle(probe).color, getComputedStyle(document.querySelector('polyline.ovpn-rx')).stroke ];
		}, name);

		assert.equal(line, wanted, theme);
		await browser.shoot(`overview-${theme}${dark ? '-dark' : ''}`);
		await peersTab({ open, browser });
		await browser.shoot(`peers-${theme}${dark ? '-dark' : ''}`);
		await open('ovpn/import');
		await browser.shoot(`import-${theme}${dark ? '-dark' : ''}`);
	}
}

/** The stand-in and LuCI itself give the same answers; only where both are. */
async function honest({ browser, server }) {
	const answers = [];

	for (const src of [ LUCI_SRC, null ]) {
		server.state.src = src;
		await browser.open(`${server.address}vpn/ovpn-test/probe`);
		answers.push(JSON.parse(await browser.text('#probe')));
	}

	assert.ok(Object.keys(answers[0]).length > 50);
	assert.deepEqual(answers[1], answers[0]);
}

export const cases = [
	[ 'overview: tunnels and peers, live', overview ],
	[ 'overview: what keeps a tunnel from the kernel', findings ],
	[ 'overview: a fault in the configuration', problems ],
	[ 'overview: disconnect', disconnect ],
	[ 'menu and access list', menu ],
	...editing,
	...importing,
	...clients,
	...answers,
	...servers,
	...figures,
	...interfaces,
	...keyboards,
	[ 'status widget', widget ],
	[ 'forbidden calls', forbidden ],
	[ 'German', german ],
	[ 'themes', themes ],
	...states,
	[ 'the stand-in is like LuCI', honest, LUCI ]
];
