// SPDX-License-Identifier: GPL-2.0-only
// LuCI's page Network > Interfaces without a mouse: each field of our tabs is reached by the tabulator, in the order in which it is seen, and
// Save saves.

import assert from 'node:assert/strict';
import { closed } from './cases-peers.mjs';
import { LUCI } from './server.mjs';

/* More than the page and the dialog have of places for the tabulator. */
const MOST = 400;
/* Values of the field Kind, as it lists them. */
const KINDS = [ 'client', 'static', 'server' ];
/* Tabs that are ours, or that ours share with LuCI. */
const TABS = [ 'general', 'advanced', 'tls', 'users', 'peers' ];
const SAVE = '.modal .button-row .cbi-button-positive';
const menu = tab => `.modal .cbi-map:not(.hidden) .cbi-tabmenu [data-tab="${tab}"] a`;

/** Notes each place of the dialog where the tabulator has to stop, below `scope`; resolves to their names. */
const expect = (browser, scope) => browser.page.evaluate((root, words) => {
	window.stops = [ ...document.querySelectorAll(root) ].filter(one => one.checkVisibility())
		.flatMap(one => [ ...one.querySelectorAll('input, select, textarea, button, a[href], [tabindex]') ])
		// LuCI's own lists of choices are one stop each; a control of ours is one whatever its tabindex.
		.filter(one => (one.tabIndex >= 0 || one.matches('input, select, textarea, button') && !one.closest('.cbi-dropdown'))
			&& !one.disabled && one.checkVisibility() && one.type != 'hidden');

	return window.stops.map(one => `${one.closest('[data-name]')?.dataset.name ?? words}: ${one.tagName} ${one.textContent.trim().slice(0, 30)}`);
}, scope, 'no option');

/** Presses the tabulator up to the button Save: it stops at each place once, in the order in which they are seen. */
async function walk(browser, scope, what) {
	const names = await expect(browser, scope);
	const reached = [];

	assert.ok(names.length, `${what}: nothing to reach`);

	for (let presses = 0; presses < MOST; presses++) {
		await browser.page.keyboard.press('Tab');

		const [ stop, end ] = await browser.page.evaluate(save =>
			[ window.stops.indexOf(document.activeElement), document.activeElement.matches(save) ], SAVE);

		if (end)
			break;

		if (stop >= 0)
			reached.push(names[stop]);
	}

	assert.deepEqual(reached, names, what);

	return names;
}

/** Chooses the kind of the tunnel. */
async function choose(browser, from, to) {
	const steps = KINDS.indexOf(to) - KINDS.indexOf(from);

	await show(browser, 'general');
	await browser.tab('.modal [data-name="_kind"] select', MOST);

	for (let step = 0; step < Math.abs(steps); step++)
		await browser.page.keyboard.press(steps < 0 ? 'ArrowUp' : 'ArrowDown');

	assert.equal(await browser.page.$eval('.modal [data-name="_kind"] select', node => node.value), to);
}

async function show(browser, tab) {
	await browser.tab(menu(tab), MOST);
	await browser.page.keyboard.press('Enter');
	await browser.page.waitForSelector(`.modal [data-tab="${tab}"][data-tab-active="true"]`, { visible: true });
}

/** Each tab of ours that this kind of tunnel has; resolves to the options that were reached. */
async function tabs(browser, kind) {
	const seen = new Set();

	for (const tab of TABS) {
		const there = await browser.page.$eval(menu(tab), node => node.checkVisibility()).catch(() => false);

		if (!there)
			continue;

		await show(browser, tab);
		(await walk(browser, `.modal [data-tab="${tab}"][data-tab-active="true"]`, `${kind}, tab ${tab}`)).forEach(name => seen.add(name.split(':')[0]));
	}

	return seen;
}

/** Every kind of tunnel, the dialog of a peer, and Save, up to the change that LuCI would apply. */
async function keyboard({ open, browser, guest, router, rpcd }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);

	rpcd.answers = { 'network.get_proto_handlers': { openvpn_dco: { no_device: true }, static: {} } };

	try {
		await open('network/network');
		await browser.page.waitForSelector('tr[data-sid="vpn0"] .cbi-button-edit', { visible: true });
		await browser.tab('tr[data-sid="vpn0"] .cbi-button-edit', MOST);
		await browser.page.keyboard.press('Enter');
		await browser.page.waitForSelector('.modal [data-name="local_port"] input', { visible: true });

		const reached = { static: await tabs(browser, 'static') };

		await choose(browser, 'static', 'client');
		reached.client = await tabs(browser, 'client');
		await choose(browser, 'client', 'server');
		reached.server = await tabs(browser, 'server');
		await choose(browser, 'server', 'static');

		for (const [ kind, names ] of Object.entries({
			static: [ '_kind', 'mode', 'local_port', 'addresses', 'cipher', 'killswitch', 'mtu', 'hwcrypto', '_peers' ],
			client: [ '_kind', 'remote', 'ca', 'auth_user_pass', 'killswitch', 'tls_crypt', 'data_ciphers', 'hwcrypto' ],
			server: [ '_kind', 'server', 'port', '_certificates', '_firewall', 'killswitch', 'tls_crypt', 'user_file', '_users' ]
		}))
			for (const name of names)
				assert.ok(reached[kind].has(name), `${kind}: ${name} is not among ${[ ...reached[kind] ].join(' ')}`);

		console.log(`# options reached by the tabulator: ${Object.entries(reached).map(([ kind, names ]) => `${kind} ${names.size}`).join(', ')}`);

		// A peer's own dialog, which goes back to that of its interface.
		await show(browser, 'peers');
		await browser.tab('.modal tr[data-sid="alice"] .cbi-button-edit', MOST);
		await browser.page.keyboard.press('Enter');
		await browser.page.waitForSelector('.modal [data-name="peer_id"] input', { visible: true });
		await walk(browser, '.modal .cbi-map:not(.hidden)', 'a peer');
		await browser.page.keyboard.press('Enter');
		await browser.page.waitForSelector('.modal tr[data-sid="alice"] .cbi-button-edit', { visible: true });

		// One value is another, and Save saves it.
		await show(browser, 'advanced');
		await browser.tab('.modal [data-name="mtu"] input', MOST);
		await browser.page.keyboard.type('1295');
		await browser.tab(SAVE, MOST);
		await browser.page.keyboard.press('Enter');
		await closed(browser);
		await browser.tab('.cbi-page-actions .cbi-button-save', MOST);
		await browser.page.keyboard.press('Enter');
		await router.until('the change', () => rpcd.changes().network?.some(change => change.join(' ') == 'set vpn0 mtu 1295'));
		assert.equal(await guest.ok([ 'cat', '/etc/config/network' ]), good);
	}
	finally {
		await router.configure(good);
	}
}

export const keyboards = [ [ 'Network > Interfaces, without a mouse', keyboard, LUCI ] ];
