/** Query parameters by a table: a wrong, unknown or repeated one is refused, so that a slip never widens what is done. */
import { parseRepositoryName, parseTag, type RepositoryName } from '../oci/reference.ts'
import { SYNC_STATES } from '../tracking/replication-state.ts'

/** The message says which parameter, and what was expected. */
export class BadParameter extends Error {
  override readonly name = 'BadParameter'
}

export interface Parameter<T> {
  /** Finishes the sentence "expected …". */
  readonly expected: string
  parse(text: string): T | undefined
}

type Read<S extends Readonly<Record<string, Parameter<unknown>>>> = {
  readonly [K in keyof S]: S[K] extends Parameter<infer T> ? T | undefined : never
}

/** Undefined for those that are not there. Throws `BadParameter`. */
export function readParameters<S extends Readonly<Record<string, Parameter<unknown>>>>(
  query: URLSearchParams,
  table: S,
): Read<S> {
  const values: Record<string, unknown> = {}
  for (const [name, text] of query) {
    const parameter = Object.hasOwn(table, name) ? table[name] : undefined
    if (!parameter) throw new BadParameter(`${name}: unknown; expected ${namesOf(table)}`)
    if (Object.hasOwn(values, name)) throw new BadParameter(`${name}: expected once`)
    const value = parameter.parse(text)
    if (value === undefined) throw new BadParameter(`${name}: expected ${parameter.expected}`)
    values[name] = value
  }
  return values as Read<S>
}

export function requireRepositoryName(text: string): RepositoryName {
  const name = parseRepositoryName(text)
  if (!name) throw new BadParameter('repository: expected a name such as team/app')
  return name
}

export const flag: Parameter<boolean> = {
  expected: 'true or false',
  parse: (text) => (text === 'true' ? true : text === 'false' ? false : undefined),
}

export const syncState = {
  expected: SYNC_STATES.join(', '),
  parse: (text: string) => SYNC_STATES.find((state) => state === text),
}

export const words: Parameter<string> = {
  expected: '1 to 255 characters',
  parse: (text) => (text.length >= 1 && text.length <= 255 ? text : undefined),
}

export const tag = { expected: 'a tag such as v1.2', parse: parseTag }

/** Of a page: the tracking database gives at most 1000 rows at a time. */
export const pageSize: Parameter<number> = {
  expected: 'a whole number from 1 to 1000',
  parse: (text) =>
    /^\d{1,4}$/.test(text) && Number(text) >= 1 && Number(text) <= 1000 ? Number(text) : undefined,
}

/** On the machine of this process, which may have another working directory than who asks. */
export const absoluteFolder: Parameter<string> = {
  expected: 'the absolute path of a folder',
  parse: (text) => (text.startsWith('/') && !text.includes('\0') ? text : undefined),
}

function namesOf(table: Readonly<Record<string, unknown>>): string {
  const names = Object.keys(table)
  return names.length === 0 ? 'none' : names.join(', ')
}
