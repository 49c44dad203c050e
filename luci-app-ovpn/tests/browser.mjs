// SPDX-License-Identifier: GPL-2.0-only
// A page in a real browser, and what tests do with it.

import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import puppeteer from 'puppeteer-core';
import { LUCI_SRC } from './server.mjs';

const DESKTOP = { width: 1280, height: 900 };
/* The narrowest that is still common. */
const PHONE = { width: 360, height: 780, screenWidth: 360, screenHeight: 780, deviceScaleFactor: 2, mobile: true };
/* Pixels of a picture's height beyond which a long list tells nothing more. */
const TALL = 3000;
/* Milliseconds for what a loaded machine may make wait. */
export const PATIENCE = 30000;

/* axe-core's own program for a page. */
const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export class Browser {
	static async start(program, shots) {
		const self = new Browser();

		fs.mkdirSync(shots, { recursive: true });
		// Tests run as root, where the browser's own sandbox does not; it sees these pages and nothing else.
		self.browser = await puppeteer.launch({ executablePath: program, args: [ '--no-sandbox', '--disable-gpu', '--lang=en' ],
			protocolTimeout: 2 * PATIENCE });
		self.shots = shots;
		self.faults = [];
		self.answer = false;

		return self;
	}

	async open(address) {
		await this.page?.close();
		this.page = await this.browser.newPage();
		// Not the library's own way to another size, which loads the page anew. The size lasts as long as the session.
		this.session = await this.page.createCDPSession();
		this.page.setDefaultTimeout(PATIENCE);
		// Questions of the page, and the answer to all of them.
		this.asked = [];
		this.page.on('dialog', dialog => {
			this.asked.push(dialog.message());
			this.answer ? dialog.accept() : dialog.dismiss();
		});
		await this.page.setViewport(DESKTOP);
		this.page.on('pageerror', error => this.faults.push(`${address}: ${error.stack ?? error}`));
		this.page.on('console', message => {
			if (message.type() == 'error')
				this.faults.push(`${address}: ${message.text()}`);
		});
		// Files that a page offers as downloads.
		await this.page.evaluateOnNewDocument(() => {
			window.downloads = [];
			const make = URL.createObjectURL.bind(URL);
			URL.createObjectURL = blob => { blob.text().then(text => window.downloads.push(text)); return make(blob); };
		});
		await this.page.goto(address, { waitUntil: 'domcontentloaded' });
		await this.rendered();

		return this.page;
	}

	/** Waits until LuCI has put the page in its place. */
	rendered() {
		return this.until(() => {
			const view = document.querySelector('#view');

			return view?.children.length && !view.querySelector(':scope > .spinning, :scope > script');
		});
	}

	/** Saves and applies the page's form, and waits until LuCI shows the page anew. */
	async apply(button = '.cbi-page-actions .cbi-button-apply') {
		const shown = this.page.waitForNavigation({ waitUntil: 'domcontentloaded' });

		await this.click(button);
		await shown;
		await this.rendered();
	}

	/** The text of what a selector finds, all of it. */
	text(selector) {
		return this.page.$$eval(selector, nodes => nodes.map(node => node.textContent).join('\n'));
	}

	/** Waits until `test`, a function for the page, holds. */
	until(test, ...args) {
		return this.page.waitForFunction(test, { timeout: PATIENCE }, ...args);
	}

	async click(selector) {
		const node = await this.page.waitForSelector(selector, { visible: true });

		await node.evaluate(one => one.scrollIntoView({ block: 'center' }));
		await node.click();
	}

	/** Presses the button with this text, in `scope`. */
	async press(words, scope = 'body') {
		const found = await this.until((text, where) => [ ...document.querySelectorAll(`${where} button`) ]
			.find(one => one.textContent.trim() == text && one.offsetParent && !one.disabled), words, scope);
		const node = found.asElement();

		await node.evaluate(one => one.scrollIntoView({ block: 'center' }));
		await node.click();
	}

	/** Types into a field in place of what is there, and leaves it. */
	async fill(selector, text) {
		const node = await this.page.waitForSelector(selector, { visible: true });

		await node.evaluate(one => { one.scrollIntoView({ block: 'center' }); one.value = ''; });
		await node.type(text);
		await node.evaluate(one => {
			one.dispatchEvent(new Event('keyup', { bubbles: true }));
			one.dispatchEvent(new Event('change', { bubbles: true }));
			one.blur();
		});
	}

	/** Adds a value to a list that grows. */
	async add(selector, text) {
		const node = await this.page.waitForSelector(selector, { visible: true });

		await node.evaluate(one => one.scrollIntoView({ block: 'center' }));
		await node.type(text);
		await node.press('Enter');
	}

	/** Notes what reaches over the screen's edge and stays there; what scrolls by itself does not count. */
	async fits(name) {
		const wide = () => [ ...document.documentElement.scrollWidth > screen.width + 1 ? [ 'the page' ] : [],
			...Array.from(document.querySelectorAll('#view *, .modal-overlay-active .modal *'))
				.filter(node => !node.closest('pre, svg') && node.getBoundingClientRect().right > screen.width + 1)
				.map(node => `${node.tagName}.${node.className}`) ];

		// A theme may take its time to move a dialog to its new place.
		await this.page.waitForFunction(`!(${wide})().length`, { timeout: PATIENCE / 10 }).catch(async () =>
			this.faults.push(`${name}: wider than a phone: ${(await this.page.evaluate(wide)).join(', ')}`));
	}

	/** Notes fields and buttons of ours that have no name for one who does not see them. */
	async named(name) {
		const nameless = await this.page.$$eval('.ovpn-tunnel, .ovpn-keys, .ovpn-drop, #ovpn-import-preview', parts => parts
			.flatMap(part => [ ...part.querySelectorAll('input, textarea, select, button, svg') ])
			.filter(node => node.checkVisibility() && ![ node.getAttribute('aria-label'), node.title, node.textContent,
				...Array.from(node.labels ?? [], label => label.textContent) ].some(text => typeof text == 'string' && text.trim()))
			.map(node => node.outerHTML.slice(0, 100)));

		if (nameless.length)
			this.faults.push(`${name}: without a name: ${nameless.join(', ')}`);
	}

	/** Notes what axe-core calls serious or critical in our part of the page. */
	async usable(name) {
		await this.page.evaluate(AXE);

		// LuCI gives its boxes an empty label, in a table and elsewhere; the stand-in's have names outside of tables.
		const found = await this.page.evaluate(async boxes => {
			const modal = document.querySelector('.modal-overlay-active .modal');
			// Colours are the theme's, which is a stand-in here; the frame of a dialog and the field for a name are LuCI's.
			const { violations } = await window.axe.run({ include: [ modal ?? document.querySelector('#view') ],
				exclude: [ '.cbi-section-create', boxes ] },
			{ rules: { 'color-contrast': { enabled: false }, 'aria-dialog-name': { enabled: false } } });

			return violations.filter(one => [ 'serious', 'critical' ].includes(one.impact))
				.map(one => `${one.id}: ${one.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' ')}`);
		}, LUCI_SRC ? '.cbi-checkbox' : '.cbi-section-table .cbi-checkbox');

		if (found.length)
			this.faults.push(`${name}: axe: ${found.join('\n')}`);
	}

	/** Moves to what a selector finds as one does who has no mouse. */
	async tab(selector, most = 30) {
		for (let presses = 0; presses < most; presses++) {
			await this.page.keyboard.press('Tab');

			if (await this.page.evaluate(wanted => document.activeElement.matches(wanted), selector))
				return;
		}

		throw new Error(`the tabulator does not lead to ${selector}`);
	}

	/** Keeps pictures of the page at the widths of a desktop and of a phone; `ours` are held to our rules. */
	async shoot(name, ours = true) {
		const session = this.session;

		if (ours) {
			await this.named(name);
			await this.usable(name);
		}

		// Where it was scrolled to, a theme's header would lie over the page.
		await this.page.evaluate(() => window.scrollTo(0, 0));

		// LuCI's tooltip stays at its place on the wider screen, also where it cannot be seen.
		const tooltip = display => this.page.$$eval('.cbi-tooltip', (all, how) => all.forEach(one => { one.style.display = how; }), display);

		await tooltip('none');

		for (const [ device, size ] of [ [ 'desktop', { ...DESKTOP, deviceScaleFactor: 1, mobile: false } ], [ 'phone', PHONE ] ]) {
			await session.send('Emulation.setDeviceMetricsOverride', size);
			await this.page.evaluate(() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve))));

			// Of what is seen: the boxes of hidden things, and of what scrolls by itself, do not count.
			if (device == 'phone' && ours)
				await this.fits(name);

			const height = await this.page.evaluate(() => document.documentElement.scrollHeight);
			const clip = height > TALL ? { clip: { x: 0, y: 0, width: size.width, height: TALL, scale: 1 } } : {};
			const { data } = await session.send('Page.captureScreenshot', { captureBeyondViewport: true, ...clip });

			fs.writeFileSync(path.join(this.shots, `${name}-${device}.png`), Buffer.from(data, 'base64'));
		}

		await tooltip('');
		await session.send('Emulation.setDeviceMetricsOverride', { ...DESKTOP, deviceScaleFactor: 1, mobile: false });
	}

	close() {
		return this.browser.close();
	}
}
