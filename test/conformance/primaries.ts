/** The registries that are measured by themselves and behind a secondary, open to all, with every kind of deletion. */
import { mkdir } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { onFreePort } from '../support/port.ts'
import { runProgram, startProgram, waitForHttp } from '../support/process.ts'

export interface Primary extends AsyncDisposable {
  readonly url: string
  /** Connections are refused from then on. */
  stop(): Promise<void>
}

/** By the name that the result carries. */
export const PRIMARIES: Readonly<Record<string, () => Promise<Primary>>> = {
  olareg: startOlareg,
  'docker-registry': () => startDockerRegistry(),
}

const OLAREG_MODULE = join(import.meta.dirname, 'olareg')
const CACHE = join(import.meta.dirname, '../../node_modules/.cache/geo-registry')

async function startOlareg(): Promise<Primary> {
  await using starting = new AsyncDisposableStack()
  const program = await buildOlareg()
  const running = starting.use(
    await onFreePort(async (port) => {
      const where = ['--addr', '127.0.0.1', '--port', String(port), '--store-type', 'mem']
      // In memory: read again from its folder at some moment, it forgets the manifests of an index that was deleted,
      // and no two runs are alike. Nothing is collected, as a case that takes long must not lose what it pushed.
      const rules = ['--api-delete', '--api-blob-delete', '--gc-frequency', '-1s']
      const process = await startProgram(program, ['serve', ...where, ...rules])
      await waitForHttp(process, `http://127.0.0.1:${port}/v2/`)
      return { port, stop: () => process.stop(), [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() }
    }),
  )
  const owned = starting.move()
  return {
    url: `http://127.0.0.1:${running.port}`,
    stop: async () => void (await running.stop()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/**
 * Built by Go from the version and the checksums in `olareg/go.mod` and `go.sum`; Go's own cache makes a second build
 * quick. Throws when Go is not installed (1.24 or newer is needed).
 */
async function buildOlareg(): Promise<string> {
  await mkdir(CACHE, { recursive: true })
  const binary = join(CACHE, 'olareg')
  const go = ['go', 'build', '-mod=readonly', '-o', binary, 'github.com/olareg/olareg/cmd/olareg']
  await runProgram('nice', ['-n', '15', ...go], {
    cwd: OLAREG_MODULE,
    deadlineMs: 600_000,
    env: inherited([
      'HOME',
      'PATH',
      'GOPATH',
      'GOCACHE',
      'GOMODCACHE',
      'GOPROXY',
      'GOSUMDB',
      'HTTPS_PROXY',
      'SSL_CERT_FILE',
    ]),
  })
  return binary
}

function inherited(names: readonly string[]): Record<string, string> {
  const found = names.flatMap((name) => {
    const value = process.env[name]
    if (value === undefined) return []
    // Where Go's own installer puts it, which few paths name.
    return [[name, name === 'PATH' ? `${value}${delimiter}/usr/local/go/bin` : value] as const]
  })
  return { ...Object.fromEntries(found), CGO_ENABLED: '0' }
}
