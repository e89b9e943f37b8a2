/**
 * A program of its own, started by `readers.ts`: reads bodies over raw sockets at given speeds and throws them away, so
 * that a hundred clients cost the machine little. Plans come as JSON on standard input, readings leave as JSON on
 * standard output.
 */
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'

export interface PlannedRequest {
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Ends the connection once it has this much of the body. Default: reads to the end. */
  readonly takeBytes?: number
}

/** One connection. */
export interface Plan {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** Any of 127.0.0.0/8, for clients that are to count as different ones. Default 127.0.0.1. */
  readonly localAddress?: string
  /** One after the other. */
  readonly requests: readonly PlannedRequest[]
  /** Default as fast as it comes. */
  readonly bytesPerSecond?: number
  /** Begins again with the first request until this is over, then leaves, in the middle of a body too. */
  readonly repeatForMs?: number
  /** Further connections, opened when the first byte of the first body is here. */
  readonly followedBy?: readonly Plan[]
}

export interface Reading {
  /** From the request to the first byte of the body. */
  readonly firstByteMs: number
  /** From the request to the last byte of the body. */
  readonly totalMs: number
}

export interface ConnectionReading {
  /** Of the requests in order; of the first round when they are repeated. */
  readonly readings: readonly Reading[]
  /** Of all bodies, also those left in the middle. */
  readonly bodyBytes: number
  /** Connecting and all requests. */
  readonly elapsedMs: number
  /** A status other than 200 and 206, or a connection that broke. */
  readonly failure?: string
}

/** Sleeps shorter than this cost more than they slow. */
const SHORTEST_PAUSE_MS = 4
/** What is read is never looked at twice, so all connections share a buffer that fits the CPU's nearer caches. */
const fast = Buffer.allocUnsafeSlow(128 * 1024)
const slow = fast.subarray(0, 64 * 1024)

async function readAll(plan: Plan): Promise<ConnectionReading[]> {
  const further: Promise<ConnectionReading[]>[] = []
  const first = await readConnection(plan, () => further.push(...(plan.followedBy ?? []).map(readAll)))
  return [first, ...(await Promise.all(further)).flat()]
}

function readConnection(plan: Plan, onFirstByte: () => void): Promise<ConnectionReading> {
  const { promise, resolve } = Promise.withResolvers<ConnectionReading>()
  const { hostname, port, host } = new URL(plan.url)
  const startedAtMs = performance.now()
  const readings: Reading[] = []
  let next = 0
  let head = ''
  /** Undefined while the head is read. */
  let bodyLeft: number | undefined
  let bodyBytes = 0
  let bodyBytesBefore = 0
  let askedAtMs = 0
  let firstByteMs = Number.NaN
  let timer: NodeJS.Timeout | undefined

  const socket = connect({
    host: hostname,
    port: Number(port),
    localAddress: plan.localAddress ?? '127.0.0.1',
    noDelay: true,
    onread: { buffer: plan.bytesPerSecond === undefined ? fast : slow, callback: onBytes },
  })
  socket.on('connect', ask)
  socket.on('error', (error) => finish(String(error)))
  socket.on('close', () => finish('the connection was closed early'))
  const end = plan.repeatForMs === undefined ? undefined : setTimeout(() => finish(), plan.repeatForMs)

  function finish(failure?: string): void {
    clearTimeout(end)
    clearTimeout(timer)
    socket.removeAllListeners('close').destroy()
    const elapsedMs = performance.now() - startedAtMs
    resolve({ readings, bodyBytes, elapsedMs, ...(failure === undefined ? {} : { failure }) })
  }

  function ask(): void {
    const request = plan.requests[next % plan.requests.length]
    if (!request || (next >= plan.requests.length && plan.repeatForMs === undefined)) {
      finish()
      return
    }
    const lines = Object.entries({ host, ...request.headers }).map(([name, value]) => `${name}: ${value}\r\n`)
    head = ''
    bodyLeft = undefined
    firstByteMs = Number.NaN
    bodyBytesBefore = bodyBytes
    askedAtMs = performance.now()
    socket.write(`GET ${request.path} HTTP/1.1\r\n${lines.join('')}\r\n`)
  }

  function onBytes(length: number, buffer: Uint8Array): boolean {
    let ofBody = length
    if (bodyLeft === undefined) {
      head += Buffer.from(buffer.buffer, buffer.byteOffset, length).toString('latin1')
      const headEnd = head.indexOf('\r\n\r\n')
      if (headEnd === -1) return true
      const status = Number(head.slice(9, 12))
      if (status !== 200 && status !== 206) {
        finish(`${plan.requests[next % plan.requests.length]?.path}: ${head}`)
        return false
      }
      bodyLeft = Number(/\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? Number.NaN)
      ofBody = head.length - headEnd - 4
    }
    return onBody(ofBody)
  }

  function onBody(length: number): boolean {
    if (length === 0 && bodyLeft !== 0) return true
    const now = performance.now()
    if (Number.isNaN(firstByteMs)) {
      firstByteMs = now - askedAtMs
      if (next === 0) onFirstByte()
    }
    bodyBytes += length
    bodyLeft = (bodyLeft ?? 0) - length
    const take = plan.requests[next % plan.requests.length]?.takeBytes
    if (bodyLeft === 0 || (take !== undefined && bodyBytes - bodyBytesBefore >= take)) {
      if (next < plan.requests.length) readings.push({ firstByteMs, totalMs: now - askedAtMs })
      next++
      if (bodyLeft === 0) ask()
      else finish()
      return true
    }
    if (!(bodyLeft > 0)) {
      finish('a body without a length, or longer than it')
      return false
    }
    return !pauseFor(now)
  }

  function pauseFor(now: number): boolean {
    if (plan.bytesPerSecond === undefined) return false
    const waitMs = startedAtMs + (bodyBytes / plan.bytesPerSecond) * 1000 - now
    if (waitMs < SHORTEST_PAUSE_MS) return false
    timer = setTimeout(() => socket.resume(), waitMs)
    return true
  }

  return promise
}

const plans = JSON.parse(await text(process.stdin)) as Plan[]
const readings = await Promise.all(plans.map(readAll))
process.stdout.write(JSON.stringify(readings.flat()))
