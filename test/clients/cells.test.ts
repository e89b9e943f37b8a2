/** The matrix says what is worse through the secondary, and only that fails a run. */
import { describe, expect, it } from 'vitest'
import {
  anyFailed,
  asMarkdown,
  asText,
  CLIENT_OPERATIONS,
  cellOf,
  type Phase,
  rowsOf,
  SIGNER_OPERATIONS,
  type Step,
} from './cells.ts'

const step = (phase: Phase, ok: boolean, client: string = 'docker'): Step => ({
  client,
  operation: 'by tag',
  phase,
  ok,
  words: '',
  tookMs: 1,
})

describe('a cell', () => {
  it.each([
    ['ok when everything went well', [step('direct', true), step('cold', true)], 'ok', []],
    ['n/a when the client was asked for nothing', [step('direct', true, 'podman')], 'n/a', []],
    [
      'failed, with the phases, when it works directly',
      [step('direct', true), step('cold', false), step('warm', true), step('stopped', false)],
      'failed',
      ['cold', 'stopped'],
    ],
    [
      'no failure of ours when it does not work directly either',
      [step('direct', false), step('cold', false)],
      'as direct',
      ['cold'],
    ],
    ['failed when there is nothing to compare with', [step('stopped', false)], 'failed', ['stopped']],
  ] as const)('is %s', (_title, steps, verdict, phases) => {
    expect(cellOf(steps, 'docker', 'by tag')).toEqual({ verdict, phases })
    expect(anyFailed(steps)).toBe(verdict === 'failed')
  })

  it('of one client is not excused by what another cannot do', () => {
    expect(anyFailed([step('direct', false, 'podman'), step('direct', true), step('warm', false)])).toBe(true)
  })
})

describe('the table', () => {
  const rows = rowsOf(
    [
      { client: 'docker', version: '20.10.24' },
      { client: 'ctr', version: '1.6.20' },
    ],
    CLIENT_OPERATIONS,
    [step('direct', true), step('cold', false)],
  )

  it('has a row for each client with its version, in columns of one width', () => {
    const [head, docker, ctr] = asText(rows).split('\n')
    expect(docker).toMatch(/^docker {2}20\.10\.24 .*failed: cold/)
    expect(ctr).toMatch(/^ctr {5}1\.6\.20 .*n\/a$/)
    expect(docker?.indexOf('failed')).toBe(head?.indexOf('by tag'))
  })

  it('is markdown when asked for', () => {
    const [head, rule, docker] = asMarkdown(rows).split('\n')
    expect(head).toMatch(/^\| client \| version \| login \|/)
    expect(rule?.match(/---/g)).toHaveLength(rows[0]?.length ?? 0)
    expect(docker).toMatch(/^\| docker \| 20\.10\.24 \| n\/a \|/)
  })

  it('of those that sign has columns of its own', () => {
    const taken: Step = { ...step('through', false, 'cosign'), operation: 'other key' }
    const [head, cosign] = rowsOf([{ client: 'cosign', version: '2.6.5' }], SIGNER_OPERATIONS, [taken])
    expect(head?.slice(0, 4)).toEqual(['client', 'version', 'login', 'sign'])
    expect(cosign?.[head?.indexOf('other key') ?? 0]).toBe('failed: through')
  })
})
