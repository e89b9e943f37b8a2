/**
 * One connection to Redis for what must be known now or not at all: nothing waits in a queue, nothing is sent twice, and
 * what is not answered in time is a no. Each connection is a session of its own; what an earlier one had in hand is lost
 * with it.
 */
import { randomBytes } from 'node:crypto'
import { Redis, ReplyError } from 'ioredis'
import type { Logger } from '../log.ts'
import { askingOptions, type RedisUrl } from '../redis-connection.ts'
import { FreshnessUnavailableError } from './freshness.ts'
import { GREET, type Script, STATE_IS_GONE } from './redis-scripts.ts'

export interface RedisSessionOptions {
  readonly url: RedisUrl
  /** What all keys begin with. */
  readonly root: string
  /** What `ask` waits for an answer. */
  readonly askMs: number
}

export interface RedisSession {
  /** Of the session under way; undefined while there is none. */
  id(): string | undefined
  /** The same, once the first is there. Rejects with `FreshnessUnavailableError`. */
  begun(): Promise<string>
  /**
   * Rejects with `FreshnessUnavailableError`: at once while Redis is away, and after 2 s when it does not answer, which
   * ends the session, for whether it was done is not known.
   */
  run(script: Script, args: readonly (string | number)[]): Promise<unknown>
  /**
   * As `run`, for what a pull waits for: `askMs`, and nothing while an earlier command is overdue. The session goes on
   * when it is late.
   */
  ask(script: Script, args: readonly (string | number)[]): Promise<unknown>
  /** All that is known in Redis of generations and epochs is given up, now or when Redis can be reached. */
  giveUpState(): void
  close(): void
}

interface Session {
  readonly id: string
  /** Scripts that this connection has sent in full. */
  readonly sent: Set<Script>
  /** Commands that were not answered in time. */
  overdue: number
  /** The kinds of errors that Redis answered and that have been logged. */
  readonly refused: Set<string>
  left: boolean
}

/** A Redis that owes an answer for so long is left; whether it did what it was asked to is not known then. */
const STALLED_MS = 2000
/** How long a connection that is left may take to be closed properly. */
const FAREWELL_MS = 200

const AWAY =
  'Redis cannot be reached (redis.url): every pull by tag is asked of the primary, and no event is taken in, until it can'

/** Throws when the URL is none; a Redis that is away is none of its faults. `opened`: at the begin of each session. */
export function createRedisSession(
  { log, opened }: { readonly log: Logger; readonly opened: () => void },
  options: RedisSessionOptions,
): RedisSession {
  const { url, root, askMs } = options
  const redis = new Redis({
    ...askingOptions(url),
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    disconnectTimeout: FAREWELL_MS,
  })
  /** The first attempt's end, which is waited for: a process that has just started is not an outage. */
  const first = Promise.withResolvers<void>()
  let session: Session | undefined
  let saidAway = false
  let stateIsLost = false
  let closed = false

  redis.on('error', report)
  redis.on('ready', () => void greet())
  redis.on('close', () => {
    if (session) report(new Error('the connection was closed'))
    session = undefined
    first.resolve()
  })

  /** Every attempt, and every command, fails while Redis is away: said once. */
  function report(error: unknown): void {
    if (saidAway || closed) return
    saidAway = true
    log.error({ error }, AWAY)
  }

  function back(): void {
    if (!saidAway) return
    saidAway = false
    log.info('Redis answers again: freshness is shared with the other processes of this site')
  }

  async function greet(): Promise<void> {
    const met: Session = { id: random(), sent: new Set(), overdue: 0, refused: new Set(), left: false }
    const newEra = random()
    const anew = stateIsLost
    stateIsLost = false
    try {
      // A Redis that does not say which one it is may be another each time.
      const server = /^run_id:(\S+)/m.exec(await within(met, STALLED_MS, redis.info('server')))?.[1] ?? newEra
      await within(met, STALLED_MS, send(met, GREET, [server, newEra, anew ? 'anew' : '']))
      if (stateIsLost) return leave(met) // Given up meanwhile.
      if (met.left || closed) return
      session = met
      back()
      opened()
    } catch (error) {
      stateIsLost ||= anew
      report(error)
      leave(met)
    } finally {
      first.resolve()
    }
  }

  /** Ends the session; another one follows. */
  function leave(on: Session | undefined): void {
    if (!on || on.left) return
    on.left = true
    if (session === on) session = undefined
    if (!closed && redis.status === 'ready') redis.disconnect(true)
  }

  /** In full the first time, so that commands are carried out in the order they were sent. */
  async function send(on: Session, script: Script, args: readonly (string | number)[]): Promise<unknown> {
    if (!on.sent.has(script)) {
      on.sent.add(script)
      return await redis.eval(script.lua, 1, root, ...args)
    }
    try {
      return await redis.evalsha(script.sha, 1, root, ...args)
    } catch (error) {
      if (!isReply(error) || !error.message.startsWith('NOSCRIPT')) throw error
      return await redis.eval(script.lua, 1, root, ...args)
    }
  }

  async function within<T>(on: Session, limitMs: number, reply: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>()
    let isLate = false
    let looking: NodeJS.Immediate | undefined
    let stalled: NodeJS.Timeout | undefined
    function giveUp(): void {
      isLate = true
      on.overdue += 1
      const error = new Error(`Redis did not answer within ${limitMs} ms`)
      late.reject(error)
      stalled = setTimeout(() => {
        report(error)
        leave(on)
      }, STALLED_MS - limitMs)
    }
    // Where this process itself was held up, the answer may be there and only has to be read.
    const timer = setTimeout(() => {
      looking = setImmediate(giveUp)
    }, limitMs)
    function answered(): void {
      clearTimeout(timer)
      clearImmediate(looking)
      clearTimeout(stalled)
      if (isLate) on.overdue -= 1
    }
    reply.then(answered, answered)
    return await Promise.race([reply, late.promise])
  }

  async function runOn(
    on: Session,
    script: Script,
    args: readonly (string | number)[],
    limitMs: number,
  ): Promise<unknown> {
    try {
      const answer = await within(on, limitMs, send(on, script, args))
      if (on.overdue === 0) back()
      return answer
    } catch (error) {
      if (isReply(error)) refused(on, error)
      else report(error)
      throw unavailable(error)
    }
  }

  /** Redis answered, and no: told once of each kind in a session, for it may be every command that is refused. */
  function refused(on: Session, error: Error): void {
    const [code = ''] = error.message.split(' ')
    if (code === STATE_IS_GONE) {
      // It was flushed, or threw keys away to make room: nothing that this session had in hand is known any longer.
      if (!on.left) log.warn('Redis has lost the state of freshness: each tag is asked of the primary anew')
      leave(on)
    } else if (!on.refused.has(code)) {
      on.refused.add(code)
      log.error({ error }, 'Redis refuses to keep freshness: what it refused is asked of the primary')
    }
  }

  async function met(limitMs: number): Promise<Session> {
    if (!session && !saidAway) {
      const late = Promise.withResolvers<void>()
      const timer = setTimeout(late.resolve, limitMs)
      await Promise.race([first.promise, late.promise])
      clearTimeout(timer)
    }
    if (!session) throw unavailable()
    return session
  }

  return {
    id: () => session?.id,
    begun: async () => (await met(STALLED_MS)).id,
    run: async (script, args) => await runOn(await met(STALLED_MS), script, args, STALLED_MS),
    async ask(script, args) {
      const on = await met(askMs)
      if (on.overdue > 0) throw unavailable()
      return await runOn(on, script, args, askMs)
    },
    giveUpState() {
      stateIsLost = true
      leave(session)
    },
    close() {
      closed = true
      session = undefined
      first.resolve()
      redis.disconnect()
    },
  }
}

function unavailable(cause?: unknown): FreshnessUnavailableError {
  return new FreshnessUnavailableError(
    'Redis, which the processes of this site share, cannot be reached now',
    {
      cause,
    },
  )
}

function random(): string {
  return randomBytes(16).toString('hex')
}

function isReply(error: unknown): error is Error {
  return error instanceof ReplyError
}
