// SPDX-License-Identifier: GPL-2.0-only
// A tunnel that asks its user, without a mouse: name and password, the server's question, the configuration's; wrong and right answers.

import assert from 'node:assert/strict';
import { closed } from './cases-peers.mjs';
import { DIR, PKI, PORT } from './cases-client.mjs';

/* A server that takes anna's password with the PIN 4711, be it an answer to its own question or one that came with the password. */
const PROGRAM = `#!/bin/sh
{ read -r user; read -r password; } < "$1"
case "$user $password" in
'anna CRV1::st::4711' | 'anna SCRV1:dmVyYm9yZ2Vu:NDcxMQ==') exit 0 ;;
'anna '*CRV1:*) echo 'no such PIN' ;;
'anna verborgen') echo 'CRV1:R:st:YW5uYQ==:PIN please' ;;
*) echo 'unknown here' ;;
esac > "$auth_failed_reason_file"
exit 1
`;
const SERVER = `script-security 2\nauth-user-pass-verify ${DIR}/program.sh via-file\n`;
const NAME = 'ask1';
const row = `[data-interface="${NAME}"] tr[data-peer="server"]`;
const fault = `[data-interface="${NAME}"] [data-fault-of="server"]`;

async function asked({ open, browser, guest, router, rpcd, server }) {
	const good = await guest.ok([ 'cat', '/etc/config/network' ]);

	await guest.ok([ 'bash', '-c', `(${PKI}) 2>${DIR}.log || { cat ${DIR}.log >&2; false; }` ]);
	await guest.write(`${DIR}/program.sh`, PROGRAM, '0700');
	await guest.ok([ 'bash', '-c', `printf '${SERVER}' >> ${DIR}/server.conf` ]);
	await guest.start([ 'bash', '-c', `cd ${DIR} && exec openvpn --config server.conf` ], 1);
	rpcd.network = false;

	try {
		await login({ open, browser, guest });
		await challenge({ browser, guest, router });
		await switched({ browser, router });
		await prepared({ open, browser, guest, router, server, rpcd });
	}
	finally {
		await guest.run([ 'pkill', '-x', 'openvpn' ]);
		await router.configure(good);
		await guest.run([ 'bash', '-c', `rm -f /etc/ovpn/${NAME}.*` ]);
	}
}

/** Waits for a question on the page, opens its dialog, and answers it: a text for each field. */
async function answer(browser, question, ...texts) {
	await browser.until((selector, words) => document.querySelector(`${selector} .ovpn-question`)?.textContent == words, row, question);
	await browser.tab(`${row} .ovpn-answer`);
	await browser.page.keyboard.press('Enter');
	await browser.until(words => document.querySelector('.modal #ovpn-answer-question')?.textContent == words, question);

	for (const [ index, text ] of texts.entries()) {
		if (index)
			await browser.page.keyboard.press('Tab');

		await browser.page.keyboard.type(text);
	}

	await browser.page.keyboard.press('Enter');
	await closed(browser);
}

const told = (browser, words) => browser.until((selector, text) => document.querySelector(selector)?.textContent.includes(text), fault, words);

/** A file without a login: the user is asked, and asked again with the server's words. */
async function login({ open, browser, guest }) {
	const blocks = await guest.ok([ 'cat', `${DIR}/blocks` ]);

	await open('ovpn/import');
	await browser.tab('#ovpn-text');
	await browser.page.keyboard.sendCharacter(`client\ndev tun\nproto udp\nremote 10.10.0.2 ${PORT}\nnobind\nremote-cert-tls server\nauth-user-pass\n${blocks}`);
	await browser.tab('#ovpn-check');
	await browser.page.keyboard.press('Enter');
	await browser.until(() => document.querySelector('#ovpn-create'));
	await browser.fill('#ovpn-name input', NAME);
	await browser.tab('#ovpn-create');

	const anew = browser.page.waitForNavigation({ waitUntil: 'domcontentloaded' });

	await browser.page.keyboard.press('Enter');
	await anew;
	await browser.rendered();
	assert.match(await guest.ok([ 'cat', '/etc/config/network' ]), /option auth_user_pass 'ask'/);
	await browser.until(selector => /waits for an answer/.test(document.querySelector(selector)?.textContent), row);
	await browser.shoot('overview-asking');

	// Nothing is sent without a name, and Enter in a field sends.
	await browser.tab(`${row} .ovpn-answer`);
	await browser.page.keyboard.press('Enter');
	await browser.until(() => document.querySelector('.modal #ovpn-answer-question'));
	assert.equal(await browser.page.evaluate(() => document.activeElement.id), 'widget.ovpn-answer-user');
	await browser.page.keyboard.press('Enter');
	await browser.until(() => document.querySelector('.modal #ovpn-answer-user .cbi-input-invalid'));
	await browser.shoot('answer');
	await browser.press('Dismiss', '.modal');
	await closed(browser);
	await answer(browser, 'User name and password', 'anna', 'falsch');
	await told(browser, 'unknown here');
	await answer(browser, 'User name and password', 'anna', 'verborgen');
}

/** The server's question, whose answer is not shown; a wrong one has the server's words, and no other login is asked for. */
async function challenge({ browser, guest, router }) {
	await browser.until(selector => /PIN please/.test(document.querySelector(selector).textContent), row);
	await browser.tab(`${row} .ovpn-answer`);
	await browser.page.keyboard.press('Enter');
	await browser.until(() => document.querySelector('.modal #ovpn-answer-question'));
	assert.deepEqual(await browser.page.$$eval('.modal .cbi-value input', all => all.map(one => [ one.id, one.type ])), [ [ 'widget.ovpn-answer-text', 'password' ] ]);
	await browser.press('Dismiss', '.modal');
	await closed(browser);
	await answer(browser, 'PIN please', '0815');
	await told(browser, 'no such PIN');
	await answer(browser, 'PIN please', '4711');
	await browser.until(selector => /\bup\b/.test(document.querySelector(`${selector} .label`).textContent), row);
	await router.reaches('10.99.0.1');

	// On the bus alone: in no file of the router, and not in the page. As words: a key has such digits by chance.
	assert.equal((await guest.run([ 'grep', '-r', '-l', '-w', '-e', 'verborgen', '-e', 'falsch', '-e', '4711', '/etc/config', '/etc/ovpn', '/etc/openvpn' ])).out, '');
	assert.ok(!await browser.page.evaluate(() => /\b(verborgen|falsch|4711)\b/.test(document.documentElement.outerHTML
		+ [ ...document.querySelectorAll('input') ].map(input => input.value).join())));
}

/** Stop and Start are one button, which keeps the focus. */
async function switched({ browser, router }) {
	const button = `[data-interface="${NAME}"] .ovpn-switch`;
	const says = words => browser.until((selector, text) => document.querySelector(selector).textContent == text, button, words);

	await says('Stop');
	await browser.tab(button);
	await browser.page.keyboard.press('Enter');
	await says('Start');
	assert.match(await browser.text(`[data-interface="${NAME}"] .ovpn-stopped`), /Stopped/);
	assert.equal((await router.call('interfaces', { interface: NAME })).interfaces[0].state, 'stopped');
	assert.equal((await router.guest.run([ 'ip', 'link', 'show', NAME ])).code, 1, 'it is in the kernel');
	assert.ok(await browser.page.evaluate(selector => document.activeElement.matches(selector), button), 'the focus is lost');
	await browser.page.keyboard.press('Enter');
	await says('Stop');
	// The login is known.
	await answer(browser, 'PIN please', '4711');
	await router.reaches('10.99.0.1');
}

/** Questions of the configuration: the password of a user, and one whose answer may be shown; in German, and for one who may look. */
async function prepared({ open, browser, guest, router, server, rpcd }) {
	const text = await guest.ok([ 'cat', '/etc/config/network' ]);
	const more = "\toption auth_user_pass 'ask'\n\toption username 'anna'\n\toption static_challenge 'Code of the token 1'\n";

	await router.configure(text.replace("\toption auth_user_pass 'ask'\n", more));
	server.state.language = 'de';
	server.state.readOnly = rpcd.readOnly = true;
	await open('ovpn/overview');
	assert.match(await browser.text(row), /wartet auf eine Antwort.*Password of anna/s);
	assert.deepEqual(await browser.page.$$eval(`${row} .ovpn-answer, .ovpn-switch`, all => all.filter(one => !one.disabled).length), 0);
	server.state.language = 'en';
	server.state.readOnly = rpcd.readOnly = false;
	await open('ovpn/overview');
	await answer(browser, 'Password of anna', 'verborgen');
	await browser.until(selector => /Code of the token/.test(document.querySelector(selector).textContent), row);
	await browser.tab(`${row} .ovpn-answer`);
	await browser.page.keyboard.press('Enter');
	await browser.until(() => document.querySelector('.modal #ovpn-answer-text input')?.type == 'text');
	await browser.page.keyboard.type('4711');
	await browser.page.keyboard.press('Enter');
	await closed(browser);
	await router.reaches('10.99.0.1');
}

export const answers = [ [ 'answer: a tunnel asks its user, without a mouse', asked ] ];
