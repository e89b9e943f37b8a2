/**
 * `WWW-Authenticate`, both ways: the primary's challenges read (RFC 7235), our own worded as GitLab's registry words
 * them. What is read comes from the network: each pattern is anchored where the last one ended and takes linear time.
 */

export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string
  /** By lower-case name. */
  readonly parameters: ReadonlyMap<string, string>
}

/** No registry's challenge is near this; a longer line is not looked at. */
const MAX_LINE_LENGTH = 16 * 1024

const TCHAR = "[!#$%&'*+.^_`|~0-9A-Za-z-]"
const PARAMETER = `(${TCHAR}+)[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TCHAR}+))(?=[ \\t]*(?:,|$))`
const SCHEME = new RegExp(`${TCHAR}+(?=[ \\t,]|$)`, 'y')
const FIRST_PARAMETER = new RegExp(`[ \\t]+${PARAMETER}`, 'y')
const NEXT_PARAMETER = new RegExp(`[ \\t]*,[ \\t,]*${PARAMETER}`, 'y')
const TOKEN68 = /[ \t]+[0-9A-Za-z._~+/-]+=*(?=[ \t]*(?:,|$))/y
const BEFORE = /[ \t,]*/y
const END = /[ \t]*(?:,[ \t,]*|$)/y

/**
 * The challenges of a header that may be repeated, in order. A line is read up to its first fault, as Distribution's
 * client does; a parameter counts only when it is whole.
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  if (header === undefined) return []
  const lines = typeof header === 'string' ? [header] : header
  return lines.flatMap((line) => (line.length > MAX_LINE_LENGTH ? [] : parseLine(line)))
}

function parseLine(line: string): Challenge[] {
  const challenges: Challenge[] = []
  let at = 0
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const match = pattern.exec(line)
    if (match) at = pattern.lastIndex
    return match
  }

  take(BEFORE)
  while (at < line.length) {
    const scheme = take(SCHEME)?.[0]
    if (scheme === undefined) break
    const parameters = new Map<string, string>()
    for (let match = take(FIRST_PARAMETER); match; match = take(NEXT_PARAMETER)) {
      const name = (match[1] ?? '').toLowerCase()
      // A second `realm` is a fault, not a choice: no secret may go to the wrong one of the two.
      if (parameters.has(name)) return challenges
      parameters.set(name, match[2]?.replace(/\\(.)/g, '$1') ?? match[3] ?? '')
    }
    if (parameters.size === 0) take(TOKEN68)
    if (!take(END)) break
    challenges.push({ scheme: scheme.toLowerCase(), parameters })
  }
  return challenges
}

export interface BearerChallenge {
  /** Where tokens are had; reachable by the client. */
  readonly realm: string
  readonly service: string
  /** Space-joined scopes; left out when empty. */
  readonly scope?: string | undefined
  readonly error?: 'invalid_token' | 'insufficient_scope' | undefined
}

/** GitLab's registry puts a comma and no space between parameters, and clients have been written against that. */
export function formatChallenge({ realm, service, scope, error }: BearerChallenge): string {
  let text = `Bearer realm=${quote(realm)},service=${quote(service)}`
  if (scope) text += `,scope=${quote(scope)}`
  if (error) text += `,error=${quote(error)}`
  return text
}

/** What cannot stand in a header becomes `?`: only a mount's `from` can hold it, and nothing is granted for that. */
function quote(text: string): string {
  return `"${text.replace(/[\\"]/g, '\\$&').replace(/[^\x20-\x7e]/g, '?')}"`
}
