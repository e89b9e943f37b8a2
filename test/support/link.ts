/**
 * The line between two sites, as a TCP proxy of our own: it counts, delays and shapes bytes, and fails in every way a
 * line fails. All controls act at once and on running connections too.
 */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { type CutHow, createDirection, type Lane, type Shape } from './link-direction.ts'
import { onFreePort } from './port.ts'

export type { Shape } from './link-direction.ts'

export interface LinkOptions extends Shape {
  /** `http://127.0.0.1:5000`, or anything else with a host and a port. */
  readonly target: string
}

export interface LinkCounts {
  /** Connections accepted since the start. */
  readonly connections: number
  /** Connections that are open now. */
  readonly open: number
  /** Bytes handed to the target. */
  readonly up: number
  /** Bytes handed to clients. */
  readonly down: number
}

/** `up` is towards the target, `down` is towards the clients. */
export interface Link extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** `127.0.0.1:<port>` */
  readonly host: string
  readonly port: number
  counts(): LinkCounts
  /** Replaces latency and rates. */
  shape(shape: Shape): void
  /** Resets every connection. */
  cut(): void
  /**
   * Lets exactly this many more bytes pass (over all connections together), then ends the connection that carried the
   * last of them: cleanly by FIN, or by a reset 50 ms later (which takes from a receiver what it has not read by then).
   * Strikes once. Default direction `down`, default how `reset`.
   */
  cutAfter(bytes: number, options?: { readonly direction?: 'up' | 'down'; readonly how?: CutHow }): void
  /** Inverts the one byte that comes after this many more bytes towards the clients. Strikes once. */
  corrupt(offset: number): void
  /** Nothing moves, nothing is lost, until `resume`. */
  stall(): void
  /** Connections are accepted and what they carry is swallowed, both ways, until `resume` (which resets them). */
  blackhole(): void
  resume(): void
  /** Connecting is refused, until `accept`; open connections are left alone (`cut` ends them). */
  refuse(): void
  accept(): Promise<void>
}

interface Connection {
  reset(): void
  /** Bytes of it were swallowed: it can only be reset. */
  lossy: boolean
}

export async function startLink(options: LinkOptions): Promise<Link> {
  const target = new URL(options.target)
  const targetPort = Number(target.port)
  const connections = new Set<Connection>()
  const up = createDirection(options)
  const down = createDirection(options)
  let latencyMs = options.latencyMs ?? 0
  let swallowing = false
  let accepted = 0

  const server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: 1024 * 1024 }, onClient)

  function onClient(client: Socket): void {
    accepted++
    if (swallowing) {
      swallow(client)
      return
    }
    const remote = connect({
      host: target.hostname,
      port: targetPort,
      allowHalfOpen: true,
      noDelay: true,
    })
    // The client's own handshake with this proxy took no time: what it sends first is held for that round trip.
    const handshakeOverMs = performance.now() + 2 * latencyMs
    const connection: Connection = {
      lossy: false,
      reset() {
        client.resetAndDestroy()
        remote.resetAndDestroy()
      },
    }
    connections.add(connection)
    const upLane = up.open(client, remote, handshakeOverMs, (how) => cutLane(client, remote, how))
    const downLane = down.open(remote, client, 0, (how) => cutLane(remote, client, how))
    carry(client, upLane, connection)
    carry(remote, downLane, connection)
    let closed = 0
    const whenClosed = (socket: Socket, peer: Socket, towards: Lane) => () => {
      towards.close()
      // Whatever ended it (a reset, a refused target), the other side learns it as a reset.
      if (socket.errored) peer.resetAndDestroy()
      closed++
      if (closed === 2) connections.delete(connection)
    }
    client.on('close', whenClosed(client, remote, downLane))
    remote.on('close', whenClosed(remote, client, upLane))
  }

  function carry(source: Socket, lane: Lane, connection: Connection): void {
    source.on('data', (chunk: Buffer) => {
      if (swallowing) connection.lossy = true
      else lane.push(chunk)
    })
    source.on('end', () => {
      if (!swallowing) lane.end()
    })
    source.on('error', () => lane.close()) // 'close' follows, and tells the other side.
  }

  function cutLane(source: Socket, sink: Socket, how: CutHow): void {
    if (how === 'reset') sink.resetAndDestroy()
    else sink.end()
    source.destroy()
  }

  function swallow(client: Socket): void {
    const connection: Connection = { lossy: true, reset: () => void client.resetAndDestroy() }
    connections.add(connection)
    client.resume()
    client.on('error', () => {}) // A client that gave up on a black hole.
    client.on('close', () => connections.delete(connection))
  }

  async function listen(port: number): Promise<number> {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return port
  }
  const port = await onFreePort(listen)

  function cutAll(only: (connection: Connection) => boolean = () => true): void {
    for (const connection of [...connections].filter(only)) connection.reset()
  }
  function flow(on: boolean): void {
    up.flow(on)
    down.flow(on)
  }
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    port,
    counts: () => ({ connections: accepted, open: connections.size, up: up.bytes, down: down.bytes }),
    shape(shape) {
      latencyMs = shape.latencyMs ?? 0
      up.shape(shape)
      down.shape(shape)
    },
    cut: () => cutAll(),
    cutAfter(bytes, { direction = 'down', how = 'reset' } = {}) {
      const cut = direction === 'down' ? down : up
      cut.cutAfter(bytes, how)
    },
    corrupt: down.corrupt,
    stall: () => flow(false),
    blackhole() {
      swallowing = true
      flow(false)
    },
    resume() {
      swallowing = false
      cutAll((connection) => connection.lossy)
      flow(true)
    },
    refuse() {
      if (server.listening) server.close()
    },
    accept: async () => void (server.listening || (await listen(port))),
    async [Symbol.asyncDispose]() {
      const closed = server.listening ? once(server, 'close') : undefined
      if (closed) server.close()
      cutAll()
      await closed
    },
  }
}
