// SPDX-License-Identifier: GPL-2.0-only
// The strings of the pages, and whether the template and the translations have them all.
//
//   node tests/strings.mjs            one TAP case a file
//   node tests/strings.mjs --write    writes po/templates/ovpn.pot anew

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const APP = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const TEMPLATE = 'po/templates/ovpn.pot';

function files(dir, ends) {
	return fs.readdirSync(path.join(APP, dir), { recursive: true })
		.map(name => path.join(dir, name)).filter(name => name.endsWith(ends)).sort();
}

/** Every _('…') of a page, and what menu and access list show: [[string, place]]. */
export function collect() {
	const found = new Map();
	const add = (string, place) => found.set(string, [ ...found.get(string) ?? [], place ]);

	for (const file of files('htdocs', '.js')) {
		const text = fs.readFileSync(path.join(APP, file), 'utf8');

		for (const match of text.matchAll(/(?<![\w$])_\(\s*('(?:\\.|[^'\\\n])*'|[^'\s])/g)) {
			const line = text.slice(0, match.index).split('\n').length;

			if (!match[1].startsWith("'"))
				throw new Error(`${file}:${line}: a translated string must be a plain one in single quotes`);

			add(match[1].slice(1, -1).replace(/\\(.)/g, '$1'), `${file}:${line}`);
		}
	}

	for (const file of files('root', '.json'))
		fs.readFileSync(path.join(APP, file), 'utf8').split('\n').forEach((line, index) => {
			const match = line.match(/"(?:title|description)": ("(?:\\.|[^"\\])*")/);

			if (match)
				add(JSON.parse(match[1]), `${file}:${index + 1}`);
		});

	return found;
}

/** msgid to msgstr of a .po or .pot file, without its header. */
export function read(file) {
	const entries = new Map();
	let key = null, value = null, into = null;
	const flush = () => key && entries.set(key, value);

	for (const line of fs.readFileSync(path.join(APP, file), 'utf8').split('\n')) {
		const match = line.match(/^(?:(msgid|msgstr) )?(".*")$/);

		if (!match)
			continue;

		const part = JSON.parse(match[2]);

		if (match[1] == 'msgid') {
			flush();
			[ key, value ] = [ part, '' ];
		}
		else if (match[1] == 'msgstr') {
			value = part;
		}
		else if (into == 'msgid') {
			key += part;
		}
		else {
			value += part;
		}

		into = match[1] ?? into;
	}

	flush();

	return entries;
}

function template(strings) {
	const entries = [ ...strings ].sort(([ a ], [ b ]) => a < b ? -1 : 1).map(([ string, places ]) => [
		...places.map(place => `#: luci-app-ovpn/${place.replace(/:\d+$/, '')}`).filter((one, at, all) => all.indexOf(one) == at),
		`msgid ${JSON.stringify(string)}`,
		'msgstr ""'
	].join('\n'));

	return [ '# SPDX-License-Identifier: GPL-2.0-only\nmsgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"', ...entries ].join('\n\n') + '\n';
}

/** Places for values of a string, in order. */
function holes(string) {
	return (string.match(/%[0-9.]*m?[a-z%]/g) ?? []).sort().join(' ');
}

/** Faults of a file of translations. */
function faults(file, strings) {
	const entries = read(file);
	const list = [];

	for (const string of strings.keys()) {
		const translated = entries.get(string);

		if (translated == null)
			list.push(`is missing: ${string}`);
		else if (file != TEMPLATE && !translated)
			list.push(`is not translated: ${string}`);
		else if (translated && holes(translated) != holes(string))
			list.push(`has other places for values: ${string}`);
	}

	for (const string of entries.keys())
		if (!strings.has(string))
			list.push(`is in no page: ${string}`);

	return list;
}

if (process.argv[1] == fileURLToPath(import.meta.url)) {
	const strings = collect();

	if (process.argv.includes('--write')) {
		fs.writeFileSync(path.join(APP, TEMPLATE), template(strings));
	}
	else {
		const all = [ TEMPLATE, ...files('po', '.po') ];

		console.log(`TAP version 13\n1..${all.length}`);
		all.forEach((file, index) => {
			const list = faults(file, strings);

			console.log(`${list.length ? 'not ok' : 'ok'} ${index + 1} - strings: ${file}`);
			list.forEach(fault => console.log(`# ${fault}`));
			process.exitCode ||= list.length ? 1 : 0;
		});
	}
}
