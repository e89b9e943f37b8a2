/**
 * The report that a conformance suite leaves: JUnit's XML, in the shape that the official suite writes, so that a run of
 * that suite and one of our own cases are read by the same reader.
 */

export type CaseStatus = 'passed' | 'failed' | 'skipped'

export interface CaseResult {
  /** The case's place: `image`, `sha256 blobs/chunked`. */
  readonly group: string
  readonly name: string
  readonly status: CaseStatus
  /** Why it failed or was skipped; empty when it passed. */
  readonly message: string
  /** The requests it sent and the answers it got, as text. */
  readonly output: string
}

export function writeJunit(suite: string, results: readonly CaseResult[]): string {
  const count = (status: CaseStatus) => results.filter((result) => result.status === status).length
  const totals = `tests="${results.length}" failures="${count('failed')}" errors="0" skipped="${count('skipped')}"`
  const cases = results.map(
    ({ group, name, status, message, output }) =>
      `  <testcase name="${escaped(name)}" classname="${escaped(group)}" status="${status === 'failed' ? 'failure' : status}">\n` +
      (status === 'failed' ? `   <failure message="${escaped(message)}"></failure>\n` : '') +
      (status === 'skipped' ? `   <skipped message="${escaped(message)}"></skipped>\n` : '') +
      `   <system-out>${escaped(output)}</system-out>\n  </testcase>\n`,
  )
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ${totals}>\n <testsuite name="${escaped(suite)}" ${totals}>\n${cases.join('')} </testsuite>\n</testsuites>\n`
}

/** Throws when the text holds no case: a report without cases proves nothing. */
export function readJunit(xml: string): CaseResult[] {
  // Free text may hold anything; as character references it can be matched around.
  const plain = xml.replace(/<!\[CDATA\[([\s\S]*?)\]\]>/g, (_, text: string) => escaped(text))
  const results = [...plain.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)].map(
    ([, attributes = '', inside = '']) => {
      const problem = /<(failure|error|skipped)\b([^>]*?)(?:\/>|>([\s\S]*?)<\/\1>)/.exec(inside)
      const [, kind, problemAttributes = '', problemText = ''] = problem ?? []
      return {
        group: attribute(attributes, 'classname'),
        name: attribute(attributes, 'name'),
        status: statusOf(attribute(attributes, 'status'), kind),
        message: attribute(problemAttributes, 'message') || unescaped(problemText).trim(),
        output: unescaped(/<system-out>([\s\S]*?)<\/system-out>/.exec(inside)?.[1] ?? ''),
      }
    },
  )
  if (results.length === 0) throw new Error('the suite reported no case: it did not run')
  return results
}

function statusOf(declared: string, problem: string | undefined): CaseStatus {
  if (problem === 'skipped' || declared === 'skipped') return 'skipped'
  if (problem !== undefined) return 'failed'
  return declared === '' || declared === 'passed' ? 'passed' : 'failed'
}

function attribute(attributes: string, name: string): string {
  return unescaped(new RegExp(`(?:^|\\s)${name}="([^"]*)"`).exec(attributes)?.[1] ?? '')
}

const NAMED: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

function unescaped(text: string): string {
  return text.replace(
    /&(?:#x([0-9a-fA-F]+)|#(\d+)|(\w+));/g,
    (whole, hex?: string, decimal?: string, name?: string) => {
      if (name !== undefined) return NAMED[name] ?? whole
      return String.fromCodePoint(Number.parseInt(hex ?? decimal ?? '', hex === undefined ? 10 : 16))
    },
  )
}

function escaped(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: XML has no way to write them.
    /[&<>"\n\t\r]|[\u0000-\u001f]/g,
    (character) => (/[&<>"\n\t\r]/.test(character) ? `&#${character.codePointAt(0)};` : '\ufffd'),
  )
}
