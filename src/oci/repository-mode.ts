/**
 * How a repository is treated at this site, by patterns of its path: the first that matches decides.
 * `replicate`: kept in step. `ondemand`: kept when a client asks. `passthrough`: read through and never written to
 * disk, pushes included. `deny`: not served here.
 */
import type { RepositoryName } from './reference.ts'

export const REPOSITORY_MODES = ['replicate', 'ondemand', 'passthrough', 'deny'] as const
export type RepositoryMode = (typeof REPOSITORY_MODES)[number]

/** `*` stands for any characters within one path component, `**` for any at all. */
export interface ModeRule {
  readonly pattern: string
  readonly mode: RepositoryMode
}

export type ModeOf = (name: RepositoryName) => RepositoryMode

/** Where no rule matches: `replicate`. */
export function createModeOf(rules: readonly ModeRule[]): ModeOf {
  const compiled = rules.map(({ pattern, mode }) => ({ matches: compile(pattern), mode }))
  return (name) => compiled.find(({ matches }) => matches.test(name))?.mode ?? 'replicate'
}

/** Undefined when it could match no repository name: anything but lower case, digits, `._-/` and stars. */
export function parsePathPattern(text: string): string | undefined {
  return /^[a-z0-9._/*-]{1,255}$/.test(text) && !text.includes('***') ? text : undefined
}

function compile(pattern: string): RegExp {
  const parts = pattern.split(/(\*\*|\*)/).map((part) => {
    if (part === '**') return '.*'
    return part === '*' ? '[^/]*' : RegExp.escape(part)
  })
  return new RegExp(`^${parts.join('')}$`)
}
