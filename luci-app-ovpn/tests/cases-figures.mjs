// SPDX-License-Identifier: GPL-2.0-only
// The cost of a tunnel for its user, counted without a mouse: presses, fields and page loads from a fresh interface to the first ping; and the
// weight of the pages. A press is a button, a tab or a choice; a field is one that has to be filled.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import zlib from 'node:zlib';
import { closed } from './cases-peers.mjs';
import { LUCI_SRC, find } from './server.mjs';

const DIR = '/etc/ovpn/home';
const USERS = '/etc/ovpn/home.users';
/* The other tunnel of this router has the port that a server has by itself. */
const FRESH = `
config interface 'home'
	option proto 'openvpn_dco'
	option port '1195'
`;
const field = (name, kind = 'input[type="text"]') => `#view [data-name="${name}"] ${kind}`;
const row = '[data-server="home"] tr[data-client="anna"]';

const seconds = since => ((Date.now() - since) / 1000).toFixed(1);

/** One who has a keyboard alone, and what he has done so far. */
class Hand {
	constructor(browser) {
		Object.assign(this, { browser, presses: 0, fields: 0, loads: 0, since: Date.now() });
	}

	get keyboard() {
		return this.browser.page.keyboard;
	}

	async press(selector) {
		await this.browser.tab(selector, 100);

		// LuCI's own Save & Apply is a list of choices that takes no Enter (ui.js, ComboButton).
		if (await this.browser.page.evaluate(() => document.activeElement.matches('.cbi-dropdown')))
			await this.browser.click(selector);
		else
			await this.keyboard.press('Enter');

		this.presses++;
	}

	async fill(selector, text) {
		await this.browser.tab(selector, 100);
		await this.keyboard.type(text);
		this.fields++;
	}

	/** Chooses the value that is `steps` below. */
	async choose(selector, steps) {
		await this.browser.tab(selector, 100);

		for (let step = 0; step < steps; step++)
			await this.keyboard.press('ArrowDown');

		this.presses++;
	}

	/** Presses what leads to a page, and waits for that. */
	async follow(selector) {
		const shown = this.browser.page.waitForNavigation({ waitUntil: 'domcontentloaded' });

		await this.press(selector);
		await shown;
		await this.browser.rendered();
		this.loads++;
	}

	toString() {
		return `${this.presses} presses, ${this.fields} fields, ${this.loads} page loads, ${seconds(this.since)} s`;
	}
}

/** A server with users, from a fresh interface to a phone that pings, and the end of a user. */
async function server({ open, browser, guest, router, rpcd }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);
	const clean = () => guest.run([ 'rm', '-rf', DIR, USERS, '/etc/config/firewall' ]);

	await clean();
	await router.configure(good + FRESH);

	try {
		const hand = new Hand(browser);

		await open('ovpn-test/protocol#home');
		hand.loads++;
		await hand.choose(field('_kind', 'select'), 2);
		await hand.fill(field('server'), '10.97.0.0/24');
		await browser.until(() => /No rule of the firewall/.test(document.querySelector('#view [data-name="_firewall"]').textContent));
		await hand.press('#view .ovpn-ca');
		await hand.press('#view .ovpn-open');

		// Save comes behind them.
		const plain = { presses: hand.presses + 1, fields: hand.fields };

		await hand.press('.cbi-tabmenu [data-tab="users"] a');
		await hand.fill('#ovpn-user-name input', 'anna');
		await hand.fill('#ovpn-user-password input', 'verschwiegen: 1');
		await hand.press('#view .ovpn-user-add');
		assert.match(await browser.text('#view [data-user="anna"]'), /Save writes its password/);
		assert.equal(await browser.page.$eval(field('user_file'), node => node.value), USERS);
		assert.equal((await guest.run([ 'test', '-e', USERS ])).code, 1, 'users before Save');
		// LuCI counts the wrong fields of a tab; those that the kind has hidden are none.
		assert.deepEqual(await browser.page.$$eval('.cbi-tabmenu [data-errors]', all => all.map(one => one.textContent)), []);
		await browser.shoot('server-users');
		await hand.follow('.cbi-page-actions .cbi-button-apply');

		const config = await guest.ok([ 'cat', '/etc/config/network' ]);

		assert.match(config, /config interface 'home'\n(\t.*\n)*\toption user_file '\/etc\/ovpn\/home.users'\n/);
		assert.match(await guest.ok([ 'cat', USERS ]), /^anna:\$6\$[^:\n]+\n$/);
		assert.equal(await guest.ok([ 'stat', '-c', '%a', USERS ]), '600\n');
		assert.equal((await guest.run([ 'grep', '-r', 'verschwiegen', '/etc/config', '/etc/ovpn' ])).out, '', 'a password on the router');
		console.log(`# server from a fresh interface, without users: ${plain.presses} presses, ${plain.fields} field, 2 page loads; with one: ${hand}`);
		await phone({ open, browser, guest, router });
		await dialog({ open, browser, guest, router, rpcd });
	}
	finally {
		await guest.run([ 'pkill', '-x', 'openvpn' ]);
		await router.configure(good);
		await clean();
	}
}

/** Its profile, with a wrong password and the right one. */
async function phone({ open, browser, guest, router }) {
	const hand = new Hand(browser);

	await open('ovpn/clients');
	hand.loads++;
	await hand.press('.ovpn-add-client');
	await browser.until(() => document.querySelector('#ovpn-client-name input'));
	await hand.fill('#ovpn-client-name input', 'anna');
	await hand.fill('#ovpn-client-remote input', '10.10.0.1');
	await hand.press('#ovpn-client-make');
	await closed(browser);
	await browser.until(() => window.downloads.length);
	console.log(`# a phone's profile: ${hand}`);

	const [ profile ] = await browser.page.evaluate(() => window.downloads);
	const connect = async password => {
		await guest.write('/tmp/anna.login', `anna\n${password}\n`);
		await guest.start([ 'bash', '-c', 'exec openvpn --config /tmp/anna.ovpn --auth-user-pass /tmp/anna.login --auth-retry none > /tmp/anna.log' ], 1);
	};

	await guest.write('/tmp/anna.ovpn', profile);
	await connect('falsch');
	await router.until('the refusal', async () => /AUTH_FAILED,user name or password is wrong/.test((await guest.run([ 'cat', '/tmp/anna.log' ])).out));
	await guest.run([ 'pkill', '-x', 'openvpn' ]);

	const since = Date.now();

	await connect('verschwiegen: 1');
	await router.until('the client', async () => (await guest.run([ 'ping', '-n', '-q', '-c', '1', '-W', '1', '10.97.0.1' ], { ns: 1 })).code === 0);
	console.log(`# from its profile to its first ping: ${seconds(since)} s`);
	await open('ovpn/clients');
	await browser.until(selector => /up/.test(document.querySelector(selector)?.textContent), row);
}

/** Values that the fields of the tab refuse; and a user who goes while another one comes, whose session ends. */
async function dialog({ open, browser, guest, router }) {
	await open('ovpn-test/protocol#home');
	await browser.click('.cbi-tabmenu [data-tab="users"] a');
	await browser.until(() => document.querySelector('#view [data-user="anna"]'));

	const refuses = async (name, work, words, back) => {
		await work();
		await browser.until((selector, text) => new RegExp(text).test([ ...document.querySelectorAll(`${selector}, ${selector} *`) ]
			.map(node => node.dataset.tooltip ?? '').join()), `#view [data-name="${name}"]`, words);
		await back();
		await browser.until(selector => ![ ...document.querySelectorAll(`${selector} *`) ].some(node => node.matches('.cbi-input-invalid')), `#view [data-name="${name}"]`);
	};
	const select = value => browser.page.select(field('verify_client_cert', 'select'), value);
	const optional = () => browser.click(field('auth_user_pass_optional', 'input[type="checkbox"]'));

	await refuses('auth_gen_token', () => browser.fill(field('auth_gen_token'), '30'), 'from 60', () => browser.fill(field('auth_gen_token'), '3600'));
	await refuses('user_file', () => browser.fill(field('user_file'), ''), 'is needed', () => browser.fill(field('user_file'), USERS));
	await optional();
	await refuses('verify_client_cert', () => select('none'), 'need neither', () => select(''));
	await optional();
	await browser.click(field('username_as_common_name', 'input[type="checkbox"]'));

	for (const [ name, password, words ] of [ [ 'a:b', 'x', /without colons/ ], [ 'bob', '', /a password/ ] ]) {
		await browser.fill('#ovpn-user-name input', name);
		await browser.fill('#ovpn-user-password input', password);
		await browser.click('#view .ovpn-user-add');
		assert.match(await browser.text('#view [data-name="_users"] .ovpn-said'), words);
	}

	// The last one stays: ovpnd says so, and nothing is saved.
	const before = await guest.ok([ 'cat', '/etc/config/network', USERS ]);

	await browser.fill('#ovpn-user-name input', '');
	await browser.click('#view [data-user="anna"] .ovpn-user-remove');
	await browser.click('.cbi-page-actions .cbi-button-apply');
	await browser.until(() => /is the last one/.test(document.querySelector('#view [data-name="_users"] .ovpn-said').textContent));
	assert.equal(await guest.ok([ 'cat', '/etc/config/network', USERS ]), before);
	// LuCI leaves the rejected promise of a button to the browser, which complains.
	await router.until('the complaint', () => browser.faults.length);
	const complaints = browser.faults.splice(0);

	assert.ok(complaints.length == 1 && complaints[0].includes('is the last one'), complaints.join('\n'));

	// LuCI itself says so in a dialog besides.
	if (LUCI_SRC) {
		await browser.press('Dismiss', '.modal');
		await closed(browser);
	}

	assert.match(await browser.text('#view [data-user="anna"]'), /Save removes it.*Keep/);
	await browser.fill('#ovpn-user-name input', 'bob');
	await browser.fill('#ovpn-user-password input', 'y');
	await browser.click('#view .ovpn-user-add');
	await browser.apply();
	assert.match(await guest.ok([ 'cat', USERS ]), /^bob:\$6\$[^\n]+\n$/);
	assert.match(await guest.ok([ 'cat', '/etc/config/network' ]), /option username_as_common_name '1'/);
	assert.match(await guest.ok([ 'cat', '/etc/config/network' ]), /option auth_gen_token '3600'/);
	await router.until('the end of the session', async () => (await router.call('peers', { interface: 'home' })).total === 0);
}

/** KiB of our files that a page needs besides LuCI's own, as they are and as gzip makes them. */
async function weights({ open, browser }) {
	const page = async view => {
		await open(view);

		const names = await browser.page.evaluate(() => [ ...new Set(performance.getEntriesByType('resource').map(one => new URL(one.name).pathname)) ]);
		const ours = names.filter(name => /\/(ovpn|protocol\/openvpn_dco)/.test(name)).map(name => find(name)).filter(Boolean).map(file => fs.readFileSync(file));
		const sum = list => list.reduce((all, one) => all + one.length, 0) / 1024;

		return [ ours.length, sum(ours), sum(ours.map(one => zlib.gzipSync(one))) ];
	};

	for (const view of [ 'ovpn/overview', 'ovpn/clients', 'ovpn/import', 'ovpn-test/protocol' ]) {
		const [ files, plain, packed ] = await page(view);

		console.log(`# ${view == 'ovpn-test/protocol' ? 'the dialog of an interface' : view}: ${files} files of ours, ${plain.toFixed(1)} KiB, ${packed.toFixed(1)} KiB packed`);
		// The flash of a small router, and a line to it that is slow.
		assert.ok(files > 3 && plain < 100 && packed < 30, `${view}: ${files} files, ${plain} KiB, ${packed} KiB packed`);
	}
}

export const figures = [
	[ 'figures: a server with users, without a mouse', server ],
	[ 'figures: weights of the pages', weights ]
];
