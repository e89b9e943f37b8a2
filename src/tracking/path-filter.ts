/** Which rows a `ListOptions` means, as conditions that indexes can serve. */
import { type ExpressionBuilder, type ExpressionWrapper, type SqlBool, sql } from 'kysely'
import type { RepositoryName } from '../oci/reference.ts'
import type { Schema } from './schema.ts'
import type { ListOptions } from './tracking.ts'

/** The character after `/`: what lies under a path ends before it. */
const AFTER_SLASH = '0'
/** No name holds a character above these. */
const ABOVE_ALL_NAMES = '\u007f'

type Conditions = ExpressionWrapper<Schema, 'tracked_repositories', SqlBool>

/** Of state, attention and path; where a page begins and how long it is, is the list's own business. */
export function matching(filter: ListOptions) {
  return (rows: ExpressionBuilder<Schema, 'tracked_repositories'>): Conditions => {
    const { state, needsAttention, path, only } = filter
    return rows.and([
      ...(state === undefined ? [] : [rows('state', '=', state)]),
      // Written out, not as a parameter: SQLite uses the partial index only then.
      ...(needsAttention === undefined
        ? []
        : [rows('needs_attention', '=', sql.lit(needsAttention ? 1 : 0))]),
      ...(only === undefined ? [] : [rows('path', '=', only)]),
      ...(path === undefined ? [] : pathConditions(rows, path)),
    ])
  }
}

/** Everything below the path, not the path itself. */
export function under(path: RepositoryName) {
  return (rows: ExpressionBuilder<Schema, 'tracked_repositories'>): Conditions =>
    rows.and([
      rows('path', '>', `${path}/` as RepositoryName),
      rows('path', '<', `${path}${AFTER_SLASH}` as RepositoryName),
    ])
}

function pathConditions(rows: ExpressionBuilder<Schema, 'tracked_repositories'>, text: string) {
  // Postgres refuses the text with an error; no name holds it.
  if (text.includes('\0')) return [rows.lit(false)]
  // Names are lower case, and SQLite's `like` does not tell the cases apart.
  const pattern = (text.includes('*') ? text : `*${text}*`).toLowerCase()
  const prefix = pattern.slice(0, pattern.indexOf('*'))
  const range = [
    rows('path', '>=', prefix as RepositoryName),
    rows('path', '<', `${prefix}${ABOVE_ALL_NAMES}` as RepositoryName),
  ]
  const isPrefixOnly = pattern.length === prefix.length + 1
  return [
    ...(prefix === '' ? [] : range),
    ...(isPrefixOnly ? [] : [sql<SqlBool>`path like ${likePattern(pattern)} escape '\\'`]),
  ]
}

function likePattern(pattern: string): string {
  return pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%')
}
