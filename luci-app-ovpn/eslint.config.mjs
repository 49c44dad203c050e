// SPDX-License-Identifier: GPL-2.0-only
// The rules LuCI has for its own pages, with its warnings as errors, and stricter rules for the tests.

import js from '@eslint/js';
import json from '@eslint/json';
import globals from 'globals';
import { defineConfig, globalIgnores } from 'eslint/config';

// What LuCI gives to every page, and modules it may be required by name.
const LUCI = [ '_', 'N_', 'L', 'E', 'TR', 'baseclass', 'dom', 'form', 'fs', 'network', 'poll', 'request', 'rpc', 'session',
	'uci', 'ui', 'validation', 'view' ];
const OURS = [ 'answer', 'api', 'client', 'format', 'graph', 'keys', 'parts', 'peers', 'profile', 'protocol', 'server', 'users', 'validate', 'widget' ];

const readonly = names => Object.fromEntries(names.map(name => [ name, 'readonly' ]));

export default defineConfig([
	globalIgnores([ 'node_modules' ]),
	{
		files: [ '**/*.json' ],
		ignores: [ 'package-lock.json' ],
		plugins: { json },
		language: 'json/json',
		extends: [ 'json/recommended' ]
	},
	{
		// A page is the body of a function.
		files: [ 'htdocs/**/*.js', 'tests/stand-in/**/*.js', 'tests/pages/**/*.js' ],
		plugins: { js },
		extends: [ 'js/recommended' ],
		linterOptions: { reportUnusedDisableDirectives: 'error' },
		languageOptions: {
			sourceType: 'script',
			ecmaVersion: 2022,
			globals: { ...globals.browser, ...readonly([ ...LUCI, ...OURS ]) },
			parserOptions: { ecmaFeatures: { globalReturn: true } }
		},
		rules: {
			'no-empty': 'off',
			'no-prototype-builtins': 'off',
			'no-regex-spaces': 'off',
			'no-control-regex': 'off',
			'no-undef': 'error',
			'no-unused-vars': [ 'error', { args: 'none', caughtErrors: 'none' } ],
			'no-implied-eval': 'error',
			// No HTML out of strings.
			'no-restricted-properties': [ 'error',
				{ property: 'innerHTML' }, { property: 'outerHTML' }, { property: 'insertAdjacentHTML' },
				{ object: 'document', property: 'write' } ]
		}
	},
	{
		// LuCI takes a string that is no list's for HTML.
		files: [ 'htdocs/**/*.js' ],
		rules: {
			'no-restricted-syntax': [ 'error', ...[
				'CallExpression[callee.name="E"][arguments.1.type=/^(Template)?Literal$/]',
				'CallExpression[callee.name="E"][arguments.2.type=/^(Template)?Literal$/]',
				'CallExpression[callee.name="E"] > CallExpression[callee.name="_"]',
				'CallExpression[callee.name="E"] > CallExpression[callee.property.name="format"]',
				'CallExpression[callee.object.name="dom"] > CallExpression[callee.name="_"]',
				'CallExpression[callee.object.name="dom"][arguments.1.type=/^(Template)?Literal$/][arguments.1.value!=""]'
			].map(selector => ({ selector, message: 'Text goes into a list: [ text ].' })) ]
		}
	},
	{
		files: [ '**/*.mjs' ],
		plugins: { js },
		extends: [ 'js/recommended' ],
		languageOptions: {
			sourceType: 'module',
			ecmaVersion: 2022,
			// The browser's are in functions that the tests send to the page.
			globals: { ...globals.node, ...globals.browser, L: 'readonly' }
		}
	}
]);
