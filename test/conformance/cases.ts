/** The cases as they run: one after the other, each with the exchanges it had and what was wrong. */
import type { Digest } from '../../src/oci/digest.ts'
import { type Answer, createRegistryApi, locationOf, type RequestOptions } from '../support/registry-api.ts'
import type { CaseResult } from './junit.ts'

/** What a case sends its requests with: each is recorded with its answer. */
export interface Registry {
  send(method: string, target: string, options?: RequestOptions): Promise<Answer>
}

export interface Cases extends AsyncDisposable {
  /** Runs one case to its end. What it throws is its failure; never rejects. */
  check(group: string, name: string, run: (registry: Registry) => Promise<unknown>): Promise<void>
  readonly results: readonly CaseResult[]
}

const BODY_SHOWN = 1000

export function createCases(url: string): Cases {
  const api = createRegistryApi(url)
  const results: CaseResult[] = []
  return {
    results,
    async check(group, name, run) {
      const exchanges: string[] = []
      const registry: Registry = {
        async send(method, target, options = {}) {
          exchanges.push(requestText(method, target, options))
          const answer = await api.request(method, target, {
            signal: AbortSignal.timeout(60_000),
            ...options,
          })
          exchanges.push(answerText(answer))
          return answer
        },
      }
      let message: string | undefined
      try {
        await run(registry)
      } catch (error) {
        message = error instanceof Error ? error.message : String(error)
      }
      results.push({
        group,
        name,
        status: message === undefined ? 'passed' : 'failed',
        message: message ?? '',
        output: exchanges.join('\n'),
      })
    },
    [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
  }
}

export function expectStatus(answer: Answer, ...wanted: readonly number[]): Answer {
  if (wanted.includes(answer.status)) return answer
  throw new Error(`expected ${wanted.join(' or ')}, got ${answer.status}`)
}

export function expectEqual(what: string, found: unknown, wanted: unknown): void {
  const [foundText, wantedText] = [JSON.stringify(found ?? null), JSON.stringify(wanted ?? null)]
  if (foundText !== wantedText) throw new Error(`${what}: expected ${wantedText}, got ${foundText}`)
}

export function expectBytes(answer: Answer, wanted: Buffer): void {
  if (!answer.body.equals(wanted)) {
    throw new Error(`expected the ${wanted.length} bytes that were pushed, got ${answer.body.length} others`)
  }
}

/** The specification's error body, with a code of its form. */
export function expectErrors(answer: Answer): void {
  const [first] = (JSON.parse(answer.body.toString()) as { errors?: { code?: string }[] }).errors ?? []
  if (!/^[A-Z_]+$/.test(first?.code ?? '')) throw new Error('the body names no error code')
}

export function expectLocation(answer: Answer): string {
  return locationOf(answer)
}

/** A Location, with a digest appended to whatever query it has. */
export function closing(location: string, digest: Digest | string): string {
  return `${location}${location.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`
}

function requestText(method: string, target: string, { headers = {}, body }: RequestOptions): string {
  const length = Buffer.isBuffer(body) || typeof body === 'string' ? Buffer.byteLength(body) : undefined
  const sent = length === undefined ? (body ? '(a stream)' : '') : `(${length} bytes)`
  return [`> ${method} ${target} ${sent}`.trimEnd(), ...Object.entries(headers).map(headerText)].join('\n')
}

function answerText({ status, headers, body }: Answer): string {
  const printable = !/[^\x20-\x7e\s]/.test(body.subarray(0, BODY_SHOWN).toString('latin1'))
  const shown = printable ? body.subarray(0, BODY_SHOWN).toString() : `(${body.length} bytes)`
  return [`< ${status}`, ...Object.entries(headers).map(headerText), shown].join('\n')
}

function headerText([name, value]: readonly [string, string | undefined]): string {
  return `    ${name}: ${value ?? ''}`
}
