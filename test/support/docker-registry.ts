/** The real thing: Debian's `docker-registry` (Distribution 2.8), as the primary or as a pull-through cache. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { deepMerge, type Tree } from './deep-merge.ts'
import { onFreePort } from './port.ts'
import { type Program, startProgram, waitForHttp } from './process.ts'
import { tempFolder } from './temp.ts'
import type { TokenService } from './token-service.ts'

export interface DockerRegistryOptions {
  /** Token auth by this service; default none: open to all. */
  readonly auth?: Pick<TokenService, 'realm' | 'service' | 'issuer' | 'key'>
  /** Its root directory; default a temporary folder of its own. */
  readonly root?: string
  /** `storage.maintenance.readonly`: writes get 405. */
  readonly readonly?: boolean
  /** `http.host`, of which it makes Locations; default none: it believes the request. */
  readonly host?: string
  /** `http.secret`, which signs upload states; default the same for every registry of the kit. */
  readonly secret?: string
  /** `proxy.remoteurl`: makes it a pull-through cache. */
  readonly proxyOf?: string
  /** A `notifications` section. */
  readonly notifications?: Tree
  /** Merged over the whole configuration. */
  readonly config?: Tree
}

export interface DockerRegistry extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** `127.0.0.1:<port>`, as clients name it in a reference. */
  readonly host: string
  readonly port: number
  readonly root: string
  readonly pid: number
  logs(): string
  /** Connections are refused until `start`. */
  stop(): Promise<void>
  /** kill -9: the events that wait in it are lost. */
  kill(): Promise<void>
  /** On the same port and folder, with options changed from now on where given. */
  start(changes?: Partial<DockerRegistryOptions>): Promise<void>
  restart(changes?: Partial<DockerRegistryOptions>): Promise<void>
  /** SIGSTOP: the kernel still accepts connections, nobody ever answers. */
  freeze(): void
  thaw(): void
}

export async function startDockerRegistry(initial: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('docker-registry'))
  let options = initial
  const root = options.root ?? join(folder.path, 'root')
  await mkdir(root, { recursive: true })

  async function launch(port: number): Promise<{ program: Program; port: number }> {
    await folder.write('bundle.pem', options.auth?.key.certificatePem ?? '')
    const config = deepMerge(
      configuration(options, port, root, join(folder.path, 'bundle.pem')),
      options.config ?? {},
    )
    const program = await startProgram('docker-registry', [
      'serve',
      await folder.write('config.yml', stringify(config)),
    ])
    await waitForHttp(program, `http://127.0.0.1:${port}/v2/`)
    return { program, port }
  }

  let running = await onFreePort(launch)
  starting.defer(stop)
  const { port } = running
  const owned = starting.move()

  async function stop(): Promise<void> {
    await running.program.stop()
  }
  async function start(changes: Partial<DockerRegistryOptions> = {}): Promise<void> {
    if (!running.program.exit) throw new Error('this docker-registry is running: stop it first')
    options = { ...options, ...changes }
    running = await launch(port)
  }
  return {
    url: `http://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    port,
    root,
    get pid() {
      return running.program.pid
    },
    logs: () => running.program.logs(),
    stop,
    kill: async () => void (await running.program.kill()),
    start,
    async restart(changes) {
      await stop()
      await start(changes)
    },
    freeze: () => running.program.signal('SIGSTOP'),
    thaw: () => running.program.signal('SIGCONT'),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function configuration(options: DockerRegistryOptions, port: number, root: string, bundle: string): Tree {
  const { auth, proxyOf, notifications } = options
  return {
    version: '0.1',
    log: { level: 'info' },
    storage: {
      filesystem: { rootdirectory: root },
      delete: { enabled: true },
      maintenance: { uploadpurging: { enabled: false }, readonly: { enabled: options.readonly ?? false } },
    },
    http: {
      addr: `127.0.0.1:${port}`,
      secret: options.secret ?? 'the kit shares one secret',
      ...(options.host === undefined ? {} : { host: options.host }),
    },
    ...(auth && {
      auth: {
        token: {
          realm: auth.realm,
          service: auth.service,
          issuer: auth.issuer,
          rootcertbundle: bundle,
        },
      },
    }),
    ...(proxyOf === undefined ? {} : { proxy: { remoteurl: proxyOf } }),
    ...(notifications && { notifications }),
  }
}
