// SPDX-License-Identifier: GPL-2.0-only
// UCI files in memory, as far as rpcd's object `uci` needs them: sections in order, with options and lists.

/** Sections of a file: [{ type, name, anonymous, options }]. */
export function parse(text) {
	const sections = [];

	for (const line of text.split('\n')) {
		const words = (line.match(/'[^']*'|"[^"]*"|[^\s'"#][^\s]*/g) ?? []).map(word => word.replace(/^(['"])(.*)\1$/, '$2'));

		if (line.trim().startsWith('#') || !words.length)
			continue;

		const [ keyword, name, value ] = words;
		const options = sections[sections.length - 1]?.options;

		if (keyword == 'config')
			sections.push({ type: name, name: value ?? `cfg${String(sections.length).padStart(2, '0')}`, anonymous: value == null, options: {} });
		else if (keyword == 'option')
			options[name] = value;
		else if (keyword == 'list')
			options[name] = [ ...options[name] ?? [], value ];
		else
			throw new Error(`no line of a UCI file: ${line}`);
	}

	return sections;
}

const quoted = value => {
	if (String(value).includes("'"))
		throw new Error('these tests have no use for quotes in values');

	return `'${value}'`;
};

export function text(sections) {
	return sections.map(({ type, name, anonymous, options }) => [
		anonymous ? `config ${type}` : `config ${type} ${quoted(name)}`,
		...Object.entries(options).flatMap(([ key, value ]) => Array.isArray(value)
			? value.map(one => `\tlist ${key} ${quoted(one)}`)
			: [ `\toption ${key} ${quoted(value)}` ]),
		''
	].join('\n')).join('\n');
}

/** rpcd's form of the values of a configuration. */
export function values(sections) {
	return Object.fromEntries(sections.map((section, index) => [ section.name, {
		'.anonymous': section.anonymous, '.type': section.type, '.name': section.name, '.index': index, ...section.options
	} ]));
}

/** The difference between two states, as `uci changes` tells it. */
export function changes(old, now) {
	const list = [];
	const find = (sections, name) => sections.find(section => section.name == name);

	for (const section of old)
		if (!find(now, section.name))
			list.push([ 'remove', section.name ]);

	for (const { name, type, options } of now) {
		const before = find(old, name)?.options ?? {};

		if (!find(old, name))
			list.push([ 'add', name, type ]);

		for (const key of new Set([ ...Object.keys(before), ...Object.keys(options) ]))
			if (options[key] == null)
				list.push([ 'remove', name, key ]);
			else if (JSON.stringify(options[key]) != JSON.stringify(before[key]))
				list.push([ 'set', name, key, String(options[key]) ]);
	}

	return list;
}
