// SPDX-License-Identifier: GPL-2.0-only
// A web server that gives the browser LuCI and our pages: LuCI's files from the checkout that LUCI_SRC names, else from
// the stand-in beside this file.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { sfh } from './sfh.mjs';
import { read } from './strings.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
export const APP = path.dirname(HERE);
export const LUCI_SRC = process.env.LUCI_SRC;
/* LuCI is on no registry: cases about itself are left out without a checkout. */
export const LUCI = { missing: !LUCI_SRC && 'LUCI_SRC names no checkout of LuCI' };

const ROOT = '/cgi-bin/luci';
/* UH_UBUS_MAX_POST_SIZE of uhttpd's ubus.c, in bytes. */
const MAX_POST = 65536;
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml', '.png': 'image/png' };

/* Where a file of /luci-static may be, in order. */
const places = src => [
	path.join(APP, 'htdocs'),
	path.join(HERE, 'pages'),
	...src ? [
		path.join(src, 'modules/luci-base/htdocs'),
		path.join(src, 'modules/luci-mod-network/htdocs'),
		path.join(src, 'modules/luci-mod-status/htdocs'),
		path.join(src, 'protocols/luci-proto-openvpn/htdocs'),
		path.join(src, 'themes/luci-theme-bootstrap/htdocs'),
		path.join(src, 'themes/luci-theme-material/htdocs')
	] : [ path.join(HERE, 'stand-in') ]
];

function translations({ language, src }) {
	const table = language == 'de' ? Object.fromEntries([ ...read('po/de/ovpn.po') ].map(([ id, text ]) => [ src ? sfh(id) : id, text ])) : {};

	return `window.TR = ${JSON.stringify(table)};`;
}

const escape = text => JSON.stringify(text).replace(/</g, '\\u003c');

const MENU = JSON.parse(fs.readFileSync(path.join(APP, 'root/usr/share/luci/menu.d/luci-app-ovpn.json'), 'utf8'));

/* Pages of LuCI's own that know of ours: their view by their address. */
const LUCIS = { 'network/network': 'network/interfaces' };

function page(address, view, state) {
	const parts = [ 'admin', ...address.split('/') ];
	const env = {
		media: `/luci-static/${state.theme}`, resource: '/luci-static/resources', scriptname: ROOT, pathinfo: `/${parts.join('/')}`,
		documentroot: '/www', requestpath: parts, dispatchpath: parts,
		pollinterval: 5, ubuspath: '/ubus/', sessionid: state.session, token: state.token,
		nodespec: { satisfied: true, readonly: state.readOnly, action: { type: 'view', path: view } },
		apply_rollback: 30, apply_holdoff: 0.2, apply_timeout: 5, apply_display: 0.5, rollback_token: null
	};
	// The elements that the theme's style sheet expects around a page.
	const [ before, after ] = state.theme == 'material'
		? [ '<div class="main"><div class="main-right"><div id="maincontent"><div class="container">', '</div></div></div></div>' ]
		: [ '<div id="maincontent" class="container">', '</div>' ];
	const style = [ 'cascade.css', 'mobile.css' ].filter(name => find(`/luci-static/${state.theme}/${name}`, state.src));

	return `<!DOCTYPE html>
<html lang="${state.language}"${state.dark ? ' data-darkmode="true"' : ''}><head><meta charset="utf-8"><title>ovpn</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
${style.map(name => `<link rel="stylesheet" href="/luci-static/${state.theme}/${name}"${name == 'mobile.css' ? ' media="only screen and (max-device-width: 854px)"' : ''}>`).join('\n')}
<script src="${ROOT}/admin/translations/${state.language}"></script>
<script src="/luci-static/resources/cbi.js"></script></head>
<body data-page="${parts.join('-')}"><header><a class="brand" href="/">router</a><div id="indicators" class="pull-right"></div></header>
${before}<div id="tabmenu"></div>
<script src="/luci-static/resources/luci.js"></script>
<script>L = new LuCI(${escape(env)});</script>
<div id="view"><script>L.require('ui').then(ui => ui.instantiateView(${escape(view)}));</script></div>
${after}</body></html>`;
}

/** The file of an address below /luci-static, or null; LuCI's own from its checkout `src` if there is one. */
export function find(address, src = LUCI_SRC) {
	for (const place of places(src)) {
		const file = path.join(place, path.normalize(address));

		if (file.startsWith(place + path.sep) && fs.statSync(file, { throwIfNoEntry: false })?.isFile())
			return file;
	}

	return null;
}

async function body(request) {
	const parts = [];

	for await (const part of request)
		parts.push(part);

	return Buffer.concat(parts).toString();
}

async function respond(request, rpcd, state) {
	const url = new URL(request.url, 'http://router');
	const admin = url.pathname.startsWith(`${ROOT}/admin/`) ? url.pathname.slice(ROOT.length + 7) : null;

	if (url.pathname == '/ubus/') {
		const text = await body(request);

		if (Buffer.byteLength(text) > MAX_POST)
			return [ 200, '.json', '{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "Parse error"}}' ];

		const message = JSON.parse(text);
		const answer = Array.isArray(message) ? await Promise.all(message.map(one => rpcd.message(one))) : await rpcd.message(message);

		return [ 200, '.json', JSON.stringify(answer) ];
	}

	if (admin?.startsWith('translations/'))
		return [ 200, '.js', translations(state) ];

	if (admin?.startsWith('uci/')) {
		await body(request);

		if (request.method != 'POST' || admin != 'uci/confirm' && url.searchParams.get('token') != state.token && !rpcd.token)
			return [ 403, '.json', '{}' ];

		if (admin == 'uci/apply_rollback' && !Object.keys(rpcd.changes()).length)
			return [ 204, '.json', '' ];

		if (admin.startsWith('uci/apply_'))
			await rpcd.apply();

		return [ 200, '.json', '{"token": "confirm"}' ];
	}

	// LuCI asks netifd's handlers in this way which protocols there are.
	if (url.pathname == '/cgi-bin/cgi-exec')
		return [ 200, '.html', '' ];

	const entry = MENU[`admin/${admin}`]?.action;

	if (entry?.type == 'alias')
		return [ 302, '.html', `${ROOT}/${entry.path}` ];

	const view = LUCIS[admin] ?? (admin?.startsWith('vpn/') ? admin.slice(4) : null);

	if (view)
		return [ 200, '.html', page(admin, view, state) ];

	const file = find(url.pathname, state.src);

	return file ? [ 200, path.extname(file), fs.readFileSync(file) ] : [ 404, '.html', 'not found' ];
}

/** Serves on a free port; resolves to { address, state, missing, close }. */
export function serve(rpcd, session) {
	const state = { session, token: 'token', theme: 'bootstrap', language: 'en', readOnly: false, dark: false, src: LUCI_SRC };
	const missing = [];
	const server = http.createServer((request, response) => {
		respond(request, rpcd, state).catch(error => [ 500, '.html', String(error.stack) ]).then(([ status, ends, data ]) => {
			if (status >= 400)
				missing.push(`${status} ${request.url} ${status == 500 ? data : ''}`);

			// Nothing may run but what comes from here: the pages of a router need no other place.
			response.writeHead(status, { ...status == 302 ? { Location: data } : {}, 'Content-Type': `${TYPES[ends] ?? 'text/html'}; charset=utf-8`, 'Cache-Control': 'no-store',
				'Content-Security-Policy': "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'" });
			response.end(status == 204 || status == 302 ? undefined : data);
		});
	});

	return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve({
		address: `http://127.0.0.1:${server.address().port}${ROOT}/admin/`, state, missing, close: () => server.close()
	})));
}
