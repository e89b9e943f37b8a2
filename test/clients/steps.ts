/** One thing after another, at the primary and through the secondary; what fails is a step, never an error. */
import { ProgramError } from '../support/process.ts'
import type { Operation, Phase, Step } from './cells.ts'

/** What any of them shows of our 503, in the words of its status or of our error. */
export const OUTAGE = /\b503\b|unavailable/i

/** Room for the answers to a HEAD or two, none for a layer of an image. */
const WARM_BYTES = 4096

export interface Matrix {
  /** With the primary running: nothing else may go on meanwhile, as the bytes over the link are counted. */
  run(): Promise<void>
  /** With the primary stopped, and no push done since `run`. */
  runStopped(): Promise<void>
}

export interface Steps {
  /** The primary and the site, as this client calls them: `<hostname>:<port>`. */
  readonly at: { readonly direct: string; readonly through: string }
  /** A text that the action resolves with is kept with the step. */
  step(operation: Operation, phase: Phase, action: () => Promise<unknown>): Promise<void>
  /** As `step`, with what went over the link; a warm one that fetched content fails. */
  counted(operation: Operation, phase: Phase, action: () => Promise<void>): Promise<void>
  /** At the primary, and counted through the secondary, each under a name of its own. */
  both(operation: Operation, action: (host: string, name: string) => Promise<void>): Promise<void>
}

interface Places {
  readonly primary: { readonly host: string }
  readonly site: { readonly host: string }
  readonly link: { counts(): { readonly up: number; readonly down: number } }
}

/** Steps are given to `done` as they happen. `hostname`: what the client calls this machine, default `127.0.0.1`. */
export function createSteps(
  sites: Places,
  client: { readonly name: string; readonly hostname?: 'localhost' },
  done: (step: Step) => void,
): Steps {
  const named = ({ host }: { readonly host: string }) =>
    host.replace('127.0.0.1', client.hostname ?? '127.0.0.1')
  const at = { direct: named(sites.primary), through: named(sites.site) }

  const steps: Steps = {
    at,
    async step(operation, phase, action) {
      const startedAt = performance.now()
      let words = ''
      let ok = true
      try {
        const result = await action()
        if (typeof result === 'string') words = result
      } catch (error) {
        ok = false
        words = error instanceof Error ? error.message : String(error)
      }
      const tookMs = Math.round(performance.now() - startedAt)
      done({ client: client.name, operation, phase, ok, words, tookMs })
    },
    async counted(operation, phase, action) {
      const before = sites.link.counts()
      await steps.step(operation, phase, async () => {
        await action()
        const after = sites.link.counts()
        const down = after.down - before.down
        if (phase === 'warm' && down > WARM_BYTES) throw new Error(`${down} bytes were fetched once more`)
        return `${after.up - before.up} bytes up, ${down} down over the link`
      })
    },
    async both(operation, action) {
      await steps.step(operation, 'direct', () => action(at.direct, `direct-${operation}`))
      await steps.counted(operation, 'through', () => action(at.through, `through-${operation}`))
    },
  }
  return steps
}

/** What a client says that must not succeed, in words that match; throws when it succeeds or says something else. */
export async function refusal(attempt: Promise<unknown>, words: RegExp): Promise<string> {
  try {
    await attempt
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error
    if (words.test(error.message)) return error.message
    throw new Error(`it was refused, but not in words like ${words}: ${error.message}`)
  }
  throw new Error('it was taken')
}

/** What a client says of a write that the primary's absence refuses. */
export function outageRefusal(write: Promise<unknown>): Promise<string> {
  return refusal(write, OUTAGE)
}
