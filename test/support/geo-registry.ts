/** geo-registry itself as a child process, configured by a file as a sysadmin would. */
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { deepMerge, type Tree } from './deep-merge.ts'
import { freePort, onFreePort } from './port.ts'
import { type Exit, type Program, startProgram, waitForHttp } from './process.ts'
import { tempFolder } from './temp.ts'
import type { TokenService } from './token-service.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')
const LINES_KEPT = 20_000

export interface GeoRegistryOptions {
  /** The primary's origin: a docker-registry, a link to it, an NGINX in front of it. */
  readonly primary: string
  /** Verifies tokens of this service; default `auth.none`. */
  readonly auth?: Pick<TokenService, 'realm' | 'service' | 'issuer' | 'key'>
  /** `storage.filesystem.rootdirectory`; default a temporary folder of its own. */
  readonly root?: string
  /** Merged over the whole configuration; `undefined` takes a key out. */
  readonly config?: Tree
  /** Default `serve`. */
  readonly command?: 'serve' | 'proxy' | 'replicator'
  readonly env?: Readonly<Record<string, string>>
  /** A command that executes what follows it in its own place, as `unshare --mount` does. */
  readonly launcher?: readonly string[]
  /** Options of node itself: `--max-old-space-size=128`. */
  readonly nodeOptions?: readonly string[]
  /** How long each start may take; default 15 s. */
  readonly readyWithinMs?: number
}

export type LogLine = Readonly<Record<string, unknown>>

export interface GeoRegistry extends AsyncDisposable {
  /** The public listener, `http://127.0.0.1:<port>`; a replicator has none. */
  readonly url: string
  /** `127.0.0.1:<port>`, as clients name it in a reference. */
  readonly host: string
  readonly port: number
  /** The admin listener, `http://127.0.0.1:<port>`. */
  readonly adminUrl: string
  readonly root: string
  /** The configuration file that it was started with. */
  readonly configFile: string
  readonly pid: number
  /** Its JSON lines since the first start, the last 20 000 of them. */
  readonly lines: readonly LogLine[]
  /** The end of all that the running process wrote. */
  logs(): string
  /** SIGTERM and wait; SIGKILL after `deadlineMs` (default 15 s). */
  stop(options?: { readonly deadlineMs?: number }): Promise<void>
  /** kill -9, at once. */
  kill(): Promise<void>
  /** On the same ports and folder, with options changed from now on where given. Not while it runs. */
  start(changes?: Partial<GeoRegistryOptions>): Promise<void>
  restart(changes?: Partial<GeoRegistryOptions>): Promise<void>
  signal(signal: NodeJS.Signals): void
  /** How the running process ends. */
  readonly exited: Promise<Exit>
  /** Resident memory, and its highest value so far. */
  memory(): Promise<{ readonly residentBytes: number; readonly peakBytes: number }>
  /** What its open descriptors point at: files, sockets, pipes. */
  openFiles(): Promise<string[]>
  /** The text of `/metrics`. */
  metrics(): Promise<string>
}

interface Running {
  readonly program: Program
  readonly port: number
  readonly adminPort: number
}

/** Resolves when it is alive and ready. */
export async function startGeoRegistry(initial: GeoRegistryOptions): Promise<GeoRegistry> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('geo-registry'))
  const root = initial.root ?? join(folder.path, 'root')
  const configFile = join(folder.path, 'config.yml')
  const lines: LogLine[] = []
  let options = initial

  async function launch(port: number, adminPort: number): Promise<Running> {
    if (options.auth) await folder.write('bundle.pem', options.auth.key.certificatePem)
    const base = configuration(options, { port, adminPort, root, bundle: join(folder.path, 'bundle.pem') })
    await folder.write('config.yml', stringify(deepMerge(base, options.config ?? {})))
    const node = [process.execPath, ...(options.nodeOptions ?? [])]
    const [command = '', ...args] = [...(options.launcher ?? []), ...node, MAIN]
    const program = await startProgram(
      command,
      [...args, options.command ?? 'serve', '--config', configFile],
      { env: { ...options.env }, onLine: keepLine },
    )
    await waitForHttp(program, `http://127.0.0.1:${adminPort}/-/readiness`, {
      accept: (status) => status === 200,
      ...(options.readyWithinMs !== undefined && { deadlineMs: options.readyWithinMs }),
    })
    return { program, port, adminPort }
  }

  function keepLine(line: string): void {
    const parsed = parseLine(line)
    if (!parsed) return
    lines.push(parsed)
    if (lines.length > LINES_KEPT) lines.splice(0, lines.length - LINES_KEPT)
  }

  let running = await onFreePort(async (port) => await launch(port, await freePort()))
  starting.defer(stop)
  const owned = starting.move()
  const { port, adminPort } = running

  async function stop({ deadlineMs = 15_000 }: { readonly deadlineMs?: number } = {}): Promise<void> {
    await running.program.stop({ deadlineMs })
  }
  async function start(changes: Partial<GeoRegistryOptions> = {}): Promise<void> {
    if (!running.program.exit) throw new Error('this geo-registry is running: stop it first')
    options = { ...options, ...changes }
    running = await launch(port, adminPort)
  }
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    port,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    root,
    configFile,
    get pid() {
      return running.program.pid
    },
    lines,
    logs: () => running.program.logs(),
    stop,
    kill: async () => void (await running.program.kill()),
    start,
    async restart(changes) {
      await stop()
      await start(changes)
    },
    signal: (signal) => running.program.signal(signal),
    get exited() {
      return running.program.exited
    },
    memory: () => memoryOf(running.program.pid),
    openFiles: () => openFilesOf(running.program.pid),
    async metrics() {
      const response = await fetch(`http://127.0.0.1:${adminPort}/metrics`)
      return await response.text()
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

interface Places {
  readonly port: number
  readonly adminPort: number
  readonly root: string
  readonly bundle: string
}

function configuration(options: GeoRegistryOptions, { port, adminPort, root, bundle }: Places): Tree {
  const { auth } = options
  return {
    version: 1,
    site: { name: 'test' },
    http: {
      addr: `127.0.0.1:${port}`,
      host: `http://127.0.0.1:${port}`,
      admin: { addr: `127.0.0.1:${adminPort}` },
    },
    upstream: { url: options.primary },
    auth: auth
      ? { token: { realm: auth.realm, service: auth.service, issuer: auth.issuer, rootcertbundle: bundle } }
      : { none: {} },
    storage: { filesystem: { rootdirectory: root } },
    // What a site does by itself would be counted among what the test made it do.
    replication: { enabled: false },
  }
}

function parseLine(line: string): LogLine | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? (value as LogLine) : undefined
  } catch {
    return undefined // Not a log line: node's own words, which `logs()` has.
  }
}

/** Of any process of this machine. */
export async function memoryOf(pid: number): Promise<{ residentBytes: number; peakBytes: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const kib = (field: string) =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN)
  return { residentBytes: kib('VmRSS') * 1024, peakBytes: kib('VmHWM') * 1024 }
}

async function openFilesOf(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`
  const targets = await Promise.all(
    (await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => undefined)), // Closed meanwhile.
  )
  return targets.filter((target) => target !== undefined)
}
