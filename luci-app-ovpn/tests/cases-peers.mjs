// SPDX-License-Identifier: GPL-2.0-only
// The tab of peers: fields that refuse, a peer from its key to its last packet, keys that stay where they are.

import assert from 'node:assert/strict';

const field = (name, kind = 'input') => `.modal [data-name="${name}"] ${kind}`;
const line = peer => `tr[data-sid="${peer}"]`;

async function dialog(browser, peer) {
	await browser.press('Edit', line(peer));
	await browser.until(() => document.querySelector('.modal [data-name="peer_id"] input'));
}

/** The dialog of vpn0 at its tab of peers; where another page is. */
export async function peersTab({ open, browser }) {
	await open('ovpn-test/protocol');
	await showPeers(browser);
}

const showPeers = browser => browser.click('.cbi-tabmenu [data-tab="peers"] a');

export async function closed(browser) {
	await browser.until(() => !document.body.classList.contains('modal-overlay-active'));
}

async function addPeer(browser, name) {
	await browser.fill('.cbi-section-create-name', name);
	await browser.press('Add peer');
	await browser.until(() => document.querySelector('.modal [data-name="peer_id"] input'));
}

/** Whether a field says that its value is wrong, and in which words. */
export function complaint(browser, name, scope = '.modal') {
	return browser.page.$eval(`${scope} [data-name="${name}"]`, node => {
		const wrong = [ node, ...node.querySelectorAll('*') ].filter(one => one.matches('.cbi-input-invalid'));

		return wrong.length ? wrong.map(one => one.getAttribute('data-tooltip') ?? 'invalid').join('\n') : null;
	});
}

/** Each field refuses what ovpnd would, before anything is sent. */
async function fields({ open, browser, rpcd, guest }) {
	const before = await guest.ok([ 'cat', '/etc/config/network' ]);

	await peersTab({ open, browser });
	await browser.shoot('peers');
	await addPeer(browser, 'carol');
	// The dialog has our style sheet.
	await browser.until(() => getComputedStyle(document.querySelector('.modal .ovpn-keys .ovpn-row')).display == 'flex');

	for (const [ name, wrong, right, words ] of [
		[ 'peer_id', '16777216', '7', /0 to 16777215/ ],
		[ 'peer_id', '1', '7', /alice has this number/ ],
		[ 'peer_id', '-1', '7', /number/ ],
		[ 'endpoint_host', 'fd00::1', '10.10.0.2', /IPv4/ ],
		[ 'endpoint_host', 'a host', 'vpn.example.org', /host name/ ],
		[ 'endpoint_host', '', '10.10.0.2', /UDP/ ],
		[ 'endpoint_port', '0', '1195', /./ ],
		[ 'key_file', 'bob.key', '/etc/ovpn/x.key', /path/ ],
		[ 'key_file', '/etc/ovpn/alice.key', '/etc/ovpn/x.key', /alice has this key/ ],
		[ 'keepalive_interval', '1e3', '10', /seconds/ ],
		[ 'keepalive_timeout', '5', '60', /longer/ ]
	]) {
		await browser.fill(field(name), wrong);

		const said = await complaint(browser, name);

		assert.match(said ?? 'nothing', words, `${name} takes '${wrong}'`);
		await browser.fill(field(name), right);
		assert.equal(await complaint(browser, name), null, `${name} does not take '${right}'`);
	}

	await browser.add(field('vpn_ip', 'input[type="text"]'), '10.8.0.2');
	assert.match(await complaint(browser, 'vpn_ip') ?? 'nothing', /alice has this address/);
	await browser.shoot('peers-wrong');
	await browser.fill(field('vpn_ip', 'input[type="text"]'), '10.8.0.300');
	assert.match(await complaint(browser, 'vpn_ip') ?? 'nothing', /IP address/);
	await browser.fill(field('vpn_ip', 'input[type="text"]'), '');
	await browser.add(field('vpn_ip', 'input[type="text"]'), '10.8.0.9');
	await browser.add(field('vpn_ip', 'input[type="text"]'), '10.8.0.10');
	assert.match(await complaint(browser, 'vpn_ip') ?? 'nothing', /one IPv4/);
	await browser.add(field('allowed_ips', 'input[type="text"]'), '192.168.9.0/33');
	assert.match(await complaint(browser, 'allowed_ips') ?? 'nothing', /prefix length/);

	// Saving a form that is wrong changes nothing.
	await browser.press('Save', '.modal');
	assert.match(await complaint(browser, 'insecure_static_key') ?? 'nothing', /risk/);
	assert.ok(await browser.page.$('.modal-overlay-active .modal [data-name="peer_id"]'), 'a wrong form was saved');
	await browser.press('Dismiss', '.modal');
	await closed(browser);
	assert.deepEqual(rpcd.calls.filter(one => one.object == 'uci' && [ 'set', 'apply' ].includes(one.name) && one.args.section == 'carol'), []);
	assert.equal(await guest.ok([ 'cat', '/etc/config/network' ]), before);

	// Another section's name would be that section's end.
	await peersTab({ open, browser });
	await browser.fill('.cbi-section-create-name', 'lan');
	await browser.press('Add peer');
	await browser.until(() => /taken/.test(document.querySelector('.alert-message')?.textContent));
	assert.equal(await browser.page.$('.modal-overlay-active'), null);

	// Point to point there is one peer, and it is there; one that is switched off does not count, until it is switched on.
	const off = `\nconfig openvpn_dco_vpn0 'dora'\n\toption disabled '1'\n\toption peer_id '1'\n\tlist vpn_ip '10.8.0.4'\n`;
	const box = peer => `${line(peer)} [data-name="disabled"] input[type="checkbox"]`;
	const configure = async text => {
		await guest.write('/etc/config/network', text, '0644');
		rpcd.forget();
		await peersTab({ open, browser });
	};

	try {
		await configure(before.replace("option mode 'mp'", "option mode 'p2p'") + off);
		await browser.fill('.cbi-section-create-name', 'carol');
		await browser.press('Add peer');
		await browser.until(() => /point to point and has the peer alice/.test(document.querySelector('.alert-message')?.textContent));
		await browser.click(box('dora'));
		assert.match(await complaint(browser, 'disabled', line('dora')) ?? 'nothing', /has the peer alice/);
		await browser.click(box('dora'));
		assert.equal(await complaint(browser, 'disabled', line('dora')), null);
		await browser.click(box('alice'));
		await browser.click(box('dora'));
		assert.equal(await complaint(browser, 'disabled', line('dora')), null, 'alice is switched off');

		// Among many peers, its number and its address are free as long as it is off.
		await configure(before + off.replace("peer_id '1'", "peer_id '9'"));
		await dialog(browser, 'alice');
		await browser.fill(field('peer_id'), '9');
		assert.equal(await complaint(browser, 'peer_id'), null, 'the number of one who is switched off');
		await browser.add(field('vpn_ip', 'input[type="text"]'), '10.8.0.4');
		assert.doesNotMatch(await complaint(browser, 'vpn_ip') ?? '', /dora/);
		await configure(before + off);
		await browser.click(box('dora'));
		assert.match(await complaint(browser, 'disabled', line('dora')) ?? 'nothing', /alice has this number/);
	}
	finally {
		await guest.write('/etc/config/network', before, '0644');
	}
}

/** Bob, with a key made in the browser for both ends, up to a packet that comes back. */
async function life({ open, browser, router, rpcd, guest }) {
	await peersTab({ open, browser });
	await addPeer(browser, 'bob');
	await browser.fill(field('description'), 'Bob <img src="/x"> & Co');
	await browser.fill(field('peer_id'), '2');
	await browser.fill(field('endpoint_host'), '10.10.0.2');
	await browser.fill(field('endpoint_port'), '1195');
	await browser.add(field('vpn_ip', 'input[type="text"]'), '10.8.0.3');
	await browser.add(field('allowed_ips', 'input[type="text"]'), '192.168.9.0/24');
	await browser.click(field('route_allowed_ips', 'input[type="checkbox"]'));
	await browser.click(field('insecure_static_key', 'input[type="checkbox"]'));
	await browser.fill(field('keepalive_interval'), '1');
	await browser.fill(field('keepalive_timeout'), '10');
	await browser.press('Generate for both ends', '.modal');
	await browser.until(() => /Save writes the key/.test(document.querySelector('.modal .ovpn-said').textContent));
	assert.deepEqual(rpcd.calls.filter(one => /^key_/.test(one.name)), [], 'a key is written before Save');
	assert.equal(await browser.page.$eval(field('key_file'), node => node.value), '/etc/ovpn/vpn0-bob.key');
	await browser.press('Export for the other end', '.modal');
	await browser.until(() => window.downloads.length == 1);

	const [ exported ] = await browser.page.evaluate(() => window.downloads);

	await browser.shoot('peers-add');
	await browser.press('Save', '.modal');
	await closed(browser);
	await browser.apply();

	// The kernel has him.
	const peers = await router.kernel();

	assert.deepEqual([ ...peers.keys() ].sort(), [ 1, 2 ]);
	assert.match(await guest.ok([ 'ip', 'route', 'get', '192.168.9.1' ]), /dev vpn0/);

	// His key is root's alone, and is in no answer of all these calls.
	assert.match(await guest.ok([ 'stat', '-c', '%a %U', '/etc/ovpn/vpn0-bob.key' ]), /^600 root/);

	const secrets = (await guest.ok([ 'cat', '/etc/ovpn/vpn0-bob.key' ])).split('\n').filter(text => /^[0-9a-f]{32}$/.test(text));
	const answers = JSON.stringify(rpcd.calls.map(one => one.data ?? null));

	assert.equal(secrets.length, 16);
	secrets.forEach(secret => assert.ok(!answers.includes(secret), 'the key came back'));

	// The exported file is the other end, once the address of this one is in it.
	const key = exported.split('\n').filter(text => /^# (-----|[0-9a-f]{32}$)/.test(text)).map(text => text.slice(2)).join('\n');
	const config = exported.replace(/<[^>]*>/, '10.10.0.1').replace(/'\/etc\/ovpn\/[^']*'/, "'/tmp/other/bob.key'")
		.replace(/'vpn0'/, "'vpn1'").replace('openvpn_dco_vpn0', 'openvpn_dco_vpn1').replace("'router'", "'server'")
		.replace('10.8.0.3/24', '10.8.0.3/32');
	const old = await router.otherFile('network');

	await router.other({ 'bob.key': `${key}\n`, 'network': `${old}\n${config}` });
	// Both tunnels of the other router are in one network.
	await guest.ok([ 'ip', 'rule', 'add', 'from', '10.8.0.3', 'table', '9' ], { ns: 1 });
	await guest.ok([ 'ip', 'route', 'add', 'default', 'dev', 'vpn1', 'table', '9' ], { ns: 1 });
	await router.reaches('10.8.0.3');
	assert.ok((await router.kernel()).get(2).link.rx_packets > 0, 'packets of bob');
	await open('ovpn/overview');
	assert.match(await browser.text('tr[data-peer="bob"]'), /Bob <img src="\/x"> & Co.*up/s);
	await browser.shoot('overview-two-peers');
	await browser.press('Details', 'tr[data-peer="bob"]');
	await browser.until(() => document.querySelector('.modal h4').textContent == 'Peer Bob <img src="/x"> & Co');
}

/** Bob changes, is switched off and on, and goes; Alice does not notice. */
async function change({ open, browser, router, guest }) {
	const losses = (await router.peer('alice')).losses;
	const connected = (await router.kernel()).get(1);

	await peersTab({ open, browser });
	await dialog(browser, 'bob');
	await browser.fill(field('keepalive_interval'), '3');
	await browser.press('Save', '.modal');
	await closed(browser);
	await browser.apply();
	await showPeers(browser);
	assert.equal((await router.kernel()).get(2).keepalive_interval, 3, 'keepalive in the kernel');

	await browser.click(`${line('bob')} [data-name="disabled"] input[type="checkbox"]`);
	await browser.apply();
	assert.deepEqual([ ...(await router.kernel()).keys() ], [ 1 ], 'bob is off');
	assert.match(await guest.ok([ 'cat', '/etc/config/network' ]), /option disabled '1'/);

	// Unknown values of this peer are not shown as 0.
	await open('ovpn/overview');
	assert.doesNotMatch(await browser.text('tr[data-peer="bob"]'), /#/);
	await browser.press('Details', 'tr[data-peer="bob"]');
	await browser.until(() => /bob/.test(document.querySelector('.modal')?.textContent));
	assert.doesNotMatch(await browser.text('.modal'), /every 0 s/);
	await peersTab({ open, browser });
	await browser.click(`${line('bob')} [data-name="disabled"] input[type="checkbox"]`);
	await browser.apply();
	await router.until('bob in the kernel', async () => (await router.kernel()).has(2));
	await showPeers(browser);
	await browser.press('Delete', line('bob'));
	await browser.until(selector => !document.querySelector(selector), line('bob'));
	await browser.apply();
	assert.deepEqual([ ...(await router.kernel()).keys() ], [ 1 ], 'bob is gone');
	assert.doesNotMatch(await guest.ok([ 'cat', '/etc/config/network' ]), /bob/);
	assert.equal((await router.peer('alice')).losses, losses, 'losses of alice');
	assert.ok((await router.kernel()).get(1).link.rx_packets >= connected.link.rx_packets, 'alice was made anew');
}

/** Keys by hand: made on the router, pasted, wrong, in the way of another; each by Save, and gone with its peer when asked. */
async function keys({ open, browser, rpcd, guest, router }) {
	const said = () => browser.text('.modal .ovpn-said');
	const paste = async text => {
		await browser.page.$eval('.modal .ovpn-key-text', (node, value) => { node.value = value; }, text);
		await browser.page.$eval('.modal .ovpn-said', node => node.replaceChildren());
		await browser.press('Take the text', '.modal');
		await browser.until(() => document.querySelector('.modal .ovpn-said').textContent);

		return said();
	};
	const generate = async () => {
		await peersTab({ open, browser });
		await dialog(browser, 'alice');
		await browser.press('Generate on the router', '.modal');
		await browser.until(() => /Save has the router make/.test(document.querySelector('.modal .ovpn-said').textContent));
	};
	const file = '/etc/ovpn/vpn0-alice.key';
	const there = async () => (await guest.run([ 'ls', file ])).code === 0;
	const before = await guest.ok([ 'cat', '/etc/config/network' ]);

	// Nothing stays after Dismiss.
	await generate();
	await browser.press('Dismiss', '.modal');
	await closed(browser);
	assert.deepEqual(rpcd.calls.filter(one => /^key_/.test(one.name) || [ 'add', 'set', 'delete' ].includes(one.name)), []);
	assert.ok(!await there(), 'a key stays after Dismiss');

	await generate();
	await browser.press('Save', '.modal');
	await closed(browser);

	const made = await guest.ok([ 'cat', file ]);
	const other = await guest.ok([ 'ovpnctl', 'genkey' ]);

	await dialog(browser, 'alice');

	// A text that is no key does not leave the browser.
	assert.match(await paste('secret'), /no OpenVPN static key/);
	assert.match(await paste(other.replace(/-----END.*/, '')), /cut off/);
	assert.match(await paste(other.replace(/[0-9a-f]{32}\n/, '')), /240 bytes/);

	// One that is there stays, unless asked.
	assert.match(await paste(other), /Save writes the key/);
	assert.equal(await browser.page.$eval('.modal .ovpn-key-text', node => node.value), '', 'the key stays in the page');
	await browser.press('Save', '.modal');
	await browser.until(() => /is there already/.test(document.querySelector('.modal .ovpn-said').textContent));
	assert.equal(await guest.ok([ 'cat', file ]), made);

	// Without a key of this browser, the export has none.
	await browser.press('Export for the other end', '.modal');
	await browser.until(() => window.downloads.length == 1);

	const [ exported ] = await browser.page.evaluate(() => window.downloads);

	assert.doesNotMatch(exported, /[0-9a-f]{32}/);
	assert.match(exported, /vpn0-alice\.key|alice\.key/);
	await browser.click('.modal .ovpn-key-overwrite');
	await browser.press('Save', '.modal');
	await closed(browser);

	const hex = text => text.match(/[0-9a-f]{32}/g).join('');

	assert.equal(hex(await guest.ok([ 'cat', file ])), hex(other));

	// With its peer a file goes when asked, once the change is applied and no section names it.
	try {
		browser.answer = true;
		await router.configure(before.replaceAll('/etc/ovpn/alice.key', file));
		rpcd.forget();
		await peersTab({ open, browser });
		await browser.press('Delete', line('alice'));
		await browser.until(selector => !document.querySelector(selector), line('alice'));
		assert.match(browser.asked.at(-1), /vpn0-alice\.key/);
		assert.ok(await there(), 'the key of a peer that is still in the configuration is gone');
		await browser.apply();
		assert.ok(!await there(), 'the key stays');
	}
	finally {
		await guest.run([ 'rm', '-f', file ]);
		await router.configure(before);
		await router.reaches('10.8.0.2');
	}
}

export const editing = [
	[ 'peers: fields that refuse', fields ],
	[ 'peers: add one, key for both ends', life ],
	[ 'peers: change, switch off, delete', change ],
	[ 'peers: keys', keys ]
];
