// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's form.js that our pages use: a form over a UCI configuration.
'use strict';
'require baseclass';
'require dom';
'require uci';
'require ui';

const AbstractValue = baseclass.extend({
	__init__(map, section, option, title, description) {
		Object.assign(this, { map, section, option, title, description, rmempty: true, optional: false, default: null, elements: new Map() });
	},

	validate: () => true,

	/* Shown while another option of the section has this value, or one of these. */
	depends(option, value) {
		(this.deps ??= []).push([ option, value ]);
	},

	isActive(section_id) {
		return !this.deps || this.deps.some(([ option, value ]) => this.section.formvalue(section_id, option) == value);
	},

	cfgvalue(section_id) { return uci.get(this.map.config, section_id, this.option); },
	getUIElement(section_id) { return this.elements.get(section_id); },
	formvalue(section_id) { return this.getUIElement(section_id)?.getValue() ?? null; },
	write(section_id, value) { uci.set(this.map.config, section_id, this.option, value); },
	remove(section_id) { uci.set(this.map.config, section_id, this.option, null); },

	textvalue(section_id) {
		return L.toArray(this.cfgvalue(section_id)).length ? [].concat(this.cfgvalue(section_id)).join(', ') : E('em', [ 'none' ]);
	},

	id(section_id) { return `cbid.${this.map.config}.${section_id}.${this.option}`; },

	options(section_id) {
		return {
			id: this.id(section_id),
			placeholder: this.placeholder, datatype: this.datatype, optional: this.optional || this.rmempty,
			validate: value => this.validate(section_id, value)
		};
	},

	render(section_id) {
		const element = this.element(section_id, this.cfgvalue(section_id) ?? this.default);

		this.elements.set(section_id, element);

		return element.render();
	},

	parse(section_id) {
		const element = this.getUIElement(section_id);

		if (!element)
			return;

		if (!this.isActive(section_id))
			return this.remove(section_id);

		element.triggerValidation();

		if (!element.isValid())
			throw new TypeError('%s is not valid'.format(this.title));

		this.take(section_id);
	},

	take(section_id) {
		const value = this.formvalue(section_id);
		const empty = value == null || value === '' || Array.isArray(value) && !value.length;

		if (empty || value == this.default && (this.rmempty || this.optional))
			this.remove(section_id);
		else
			this.write(section_id, value);
	}
});

const Value = AbstractValue.extend({
	element(section_id, value) { return new ui.Textfield(value, this.options(section_id)); }
});

const choices = {
	value(key, words) {
		(this.list ??= []).push([ String(key), words ?? String(key) ]);
	}
};

/* One that may also be typed: the choices are an aid that the stand-in leaves out. */
Object.assign(Value.prototype, choices);

const ListValue = AbstractValue.extend({
	...choices,
	element(section_id, value) { return new ui.Select(value, { ...this.options(section_id), choices: this.list }); }
});

const Flag = AbstractValue.extend({
	element(section_id, value) { return new ui.Checkbox(value, this.options(section_id)); },

	take(section_id) {
		if (this.rmempty && this.formvalue(section_id) == '0')
			return this.remove(section_id);

		return AbstractValue.prototype.take.call(this, section_id);
	},

	textvalue(section_id) { return this.cfgvalue(section_id) == '1' ? 'Yes' : 'No'; }
});

const DynamicList = Value.extend({
	cfgvalue(section_id) { return L.toArray(AbstractValue.prototype.cfgvalue.call(this, section_id)); },
	element(section_id, value) { return new ui.DynamicList(value, this.options(section_id)); }
});

/* A section in a section. */
const SectionValue = AbstractValue.extend({
	__init__(map, section, option, Type, ...args) {
		AbstractValue.prototype.__init__.call(this, map, section, option);
		this.subsection = new Type(map, ...args);
	},

	formvalue: () => null,
	render() { return this.subsection.render(); },
	parse() { return this.subsection.parse(); }
});

const DummyValue = AbstractValue.extend({
	render(section_id) { return this.cfgvalue(section_id); },
	parse() {}
});

const AbstractSection = baseclass.extend({
	children: null,

	option(Type, option, title, description) {
		const made = new Type(this.map, this, option, title, description);

		(this.children ??= []).push(made);

		return made;
	},

	tab(name, title) {
		(this.tabs ??= []).push({ name, title });
	},

	taboption(tab, ...rest) {
		return Object.assign(this.option(...rest), { tab });
	},

	getOption(name) { return this.children.find(child => child.option == name); },
	getUIElement(section_id, name) { return this.getOption(name).getUIElement(section_id); },
	formvalue(section_id, name) { return this.getOption(name)?.formvalue(section_id) ?? null; },

	row(child, section_id) {
		if (child.subsection)
			return E('div', { 'data-name': child.option, 'data-tab': child.tab }, [ child.render(section_id) ]);

		return E('div', { 'class': 'cbi-value', 'data-name': child.option, 'data-tab': child.tab }, [
			E('label', { 'class': 'cbi-value-title', 'for': `widget.${child.id(section_id)}` }, [ child.title ]),
			E('div', { 'class': 'cbi-value-field' }, [
				child.render(section_id),
				child.description ? E('div', { 'class': 'cbi-value-description' }, [ child.description ]) : ''
			])
		]);
	},

	rows(section_id) {
		const rows = this.children.map(child => this.row(child, section_id));
		this.shown ??= this.tabs?.[0].name;
		const show = () => {
			rows.forEach((row, index) => { row.hidden = row.dataset.tab != this.shown || !this.children[index].isActive(section_id); });
			links.forEach(link => {
				link.classList.toggle('cbi-tab', link.dataset.tab == this.shown);
				link.hidden = !this.children.some(child => child.tab == link.dataset.tab && child.isActive(section_id));
			});
		};
		const links = (this.tabs ?? []).map(({ name, title }) => E('li', { 'data-tab': name, 'click': () => { this.shown = name; show(); } },
			[ E('a', { 'href': '#', 'click': ev => ev.preventDefault() }, [ title ]) ]));

		if (links.length)
			show();

		return E('div', { 'change': () => links.length && show() }, [ links.length ? E('ul', { 'class': 'cbi-tabmenu' }, links) : '', ...rows ]);
	}
});

const NamedSection = AbstractSection.extend({
	__init__(map, section_id, type, title) {
		Object.assign(this, { map, section: section_id, sectiontype: type, title });
	},

	render() {
		return E('div', { 'class': 'cbi-section', 'data-section': this.section }, [ this.rows(this.section) ]);
	},

	parse() {
		return Promise.all(this.children.map(child => child.parse(this.section)));
	}
});

const GridSection = AbstractSection.extend({
	__init__(map, type, title) {
		Object.assign(this, { map, sectiontype: type, title });
	},

	ids() {
		return uci.sections(this.map.config, this.sectiontype).map(section => section['.name']);
	},

	renderSectionPlaceholder: () => E('em', [ 'This section contains no values yet' ]),

	render() {
		const columns = this.children.filter(child => !child.modalonly);
		const name = E('input', { 'type': 'text', 'class': 'cbi-section-create-name', 'disabled': this.map.readonly || null });
		const add = E('button', {
			'class': 'btn cbi-button cbi-button-add', 'disabled': '',
			'click': ui.createHandlerFn(this, ev => this.handleAdd(ev, name.value))
		}, [ this.addbtntitle ?? 'Add' ]);

		name.addEventListener('keyup', () => {
			add.disabled = !(name.value && ui.mark(name, ui.typed('uciname', name.value)));
		});

		return E('div', { 'class': 'cbi-section cbi-tblsection' }, [
			E('h3', {}, this.title),
			E('table', { 'class': 'table cbi-section-table' }, [
				E('tr', { 'class': 'tr table-titles' }, [ 'Name', ...columns.map(child => child.title), '' ].map(title => E('th', { 'class': 'th' }, [ title ]))),
				...this.ids().map(section_id => this.line(columns, section_id))
			]),
			this.ids().length ? '' : this.renderSectionPlaceholder(),
			E('div', { 'class': 'cbi-section-create' }, [ E('div', [ name ]), add ])
		]);
	},

	line(columns, section_id) {
		const button = (kind, words, work) => E('button', {
			'class': `btn cbi-button ${kind}`, 'disabled': this.map.readonly || null, 'click': ui.createHandlerFn(this, work)
		}, [ words ]);

		return E('tr', { 'class': 'tr cbi-section-table-row', 'data-sid': section_id }, [
			E('td', { 'class': 'td', 'data-title': 'Name' }, [ section_id ]),
			...columns.map(child => E('td', { 'class': 'td', 'data-title': child.title, 'data-name': child.option },
				[ child.editable ? child.render(section_id) : child.textvalue(section_id) ])),
			E('td', { 'class': 'td cbi-section-actions' }, [
				button('cbi-button-edit', 'Edit', () => this.renderMoreOptionsModal(section_id)),
				button('cbi-button-remove', 'Delete', ev => this.handleRemove(section_id, ev))
			])
		]);
	},

	handleAdd(ev, name) {
		uci.add(this.map.config, this.sectiontype, name);

		return this.renderMoreOptionsModal(name, true);
	},

	handleRemove(section_id) {
		uci.remove(this.map.config, section_id);

		return this.map.save();
	},

	/* A form of its own over one section, with its own fields. */
	renderMoreOptionsModal(section_id, added) {
		const own = Object.assign(Object.create(this), { children: [] });

		own.children = this.children.map(child =>
			Object.assign(Object.create(Object.getPrototypeOf(child)), child, { section: own, elements: new Map() }));

		const error = E('div', { 'class': 'alert-message error', 'hidden': '' });
		const close = () => { ui.hideModal(); return this.map.renderContents(); };

		ui.showModal(this.modaltitle(section_id), [
			E('div', { 'class': 'cbi-section' }, [ own.rows(section_id) ]),
			error,
			E('div', { 'class': 'right button-row' }, [
				E('button', { 'class': 'btn', 'click': () => {
					if (added)
						uci.remove(this.map.config, section_id);

					return close();
				} }, [ 'Dismiss' ]), ' ',
				E('button', { 'class': 'btn cbi-button cbi-button-positive important', 'click': ui.createHandlerFn(this, async () => {
					const wrong = [];

					for (const child of own.children)
						try {
							await child.parse(section_id);
						}
						catch (fault) {
							wrong.push(fault.message);
						}

					error.hidden = !wrong.length;
					dom.content(error, [ wrong.join('; ') ]);

					if (!wrong.length) {
						await uci.save();
						await close();
					}
				}) }, [ 'Save' ])
			])
		], 'cbi-modal');
	},

	parse() {
		for (const child of this.children)
			if (child.editable)
				this.ids().forEach(section_id => child.parse(section_id));
	}
});

const FormMap = baseclass.extend({
	__init__(config, title, description) {
		Object.assign(this, { config, title, description, sections: [], readonly: !L.hasViewPermission() });
	},

	section(Type, ...args) {
		const made = new Type(this, ...args);

		this.sections.push(made);

		return made;
	},

	async render() {
		await uci.load(this.config);
		this.root = E('div', { 'class': 'cbi-map' });
		dom.bindClassInstance(this.root, this);
		this.renderContents();

		return this.root;
	},

	renderContents() {
		dom.content(this.root, [
			E('h2', {}, this.title),
			E('div', { 'class': 'cbi-map-descr' }, this.description),
			...this.sections.map(section => section.render())
		]);
	},

	async save() {
		await Promise.all(this.sections.map(section => section.parse()));
		await uci.save();
		this.renderContents();
	},

	async reset() {
		uci.unload(this.config);
		await uci.load(this.config);
		this.renderContents();
	}
});

return baseclass.extend({
	Map: FormMap, NamedSection, GridSection, AbstractSection, AbstractValue, Value, ListValue, Flag, DynamicList, DummyValue, SectionValue
});
