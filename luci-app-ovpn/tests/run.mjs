// SPDX-License-Identifier: GPL-2.0-only
// The pages in a browser, against a router in a guest: every page is opened, filled and saved, and the kernel asked what
// became of it. Standard input is the line to the guest.
//
//   node tests/run.mjs BROWSER DIRECTORY-FOR-PICTURES [PART-OF-A-CASE'S-NAME]

import { randomBytes } from 'node:crypto';
import { Browser } from './browser.mjs';
import { cases } from './cases.mjs';
import { Guest } from './guest.mjs';
import { Router } from './router.mjs';
import { Rpcd } from './rpcd.mjs';
import { APP, LUCI_SRC, serve } from './server.mjs';

const [ , , program, pictures, only = '' ] = process.argv;
const guest = new Guest(0);
const session = randomBytes(16).toString('hex');
const chosen = cases.filter(([ name ]) => name.includes(only));
let failed = 0;

console.log(`TAP version 13\n1..${chosen.length}`);
console.log(`# LuCI is ${LUCI_SRC ? 'the checkout in LUCI_SRC' : 'the stand-in'}`);

const router = new Router(guest);

await router.start();

const rpcd = new Rpcd(guest, APP, { socket: router.socket, session });
const server = await serve(rpcd, session);
const browser = await Browser.start(program, pictures);
const world = { guest, router, rpcd, server, browser, open: view => browser.open(`${server.address}${view.startsWith('ovpn') ? 'vpn/' : ''}${view}`) };

for (const [ index, [ name, work, needs ] ] of chosen.entries()) {
	if (needs?.missing) {
		console.log(`ok ${index + 1} - luci: ${name} # SKIP optional: ${needs.missing}`);
		continue;
	}

	const since = Date.now();
	let why = null;

	rpcd.forget();
	Object.assign(server.state, { theme: 'bootstrap', language: 'en', readOnly: false, dark: false, src: LUCI_SRC });
	rpcd.readOnly = browser.answer = false;
	browser.faults.length = server.missing.length = 0;

	try {
		await work(world);

		const faults = [ ...browser.faults, ...server.missing ];

		if (faults.length)
			throw new Error(`the browser or the server complained:\n${faults.join('\n')}`);
	}
	catch (error) {
		why = error;
		failed++;
		await browser.page?.screenshot({ path: `${pictures}/failed-${index + 1}.png`, fullPage: true }).catch(() => {});
	}

	console.log(`${why ? 'not ok' : 'ok'} ${index + 1} - luci: ${name} (${((Date.now() - since) / 1000).toFixed(1)} s)`);

	if (why)
		[ ...String(why.stack).split('\n'), ...browser.faults, ...server.missing ].forEach(line => console.log(`# ${line}`));
}

await browser.close();
server.close();
guest.end();
process.exitCode = failed ? 1 : 0;
