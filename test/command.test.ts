/** The real command as a child process: what it prints, where, and the status it ends with. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createLogger } from '../src/log.ts'
import { type AdminPorts, startAdmin } from '../src/status/admin.ts'
import { SMALLEST } from './config/given.ts'
import { freePort } from './support/port.ts'
import { type TempFolder, tempFolder } from './support/temp.ts'

const MAIN = join(import.meta.dirname, '../src/main.ts')

interface Result {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

async function run(args: readonly string[], environment: Record<string, string> = {}): Promise<Result> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: environment, timeout: 30_000 })
  child.stdin.end()
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  return { status: Number(status), stdout, stderr }
}

describe('geo-registry', () => {
  let folder: TempFolder
  let stack: AsyncDisposableStack
  beforeEach(async () => {
    stack = new AsyncDisposableStack()
    folder = stack.use(await tempFolder('command'))
  })
  afterEach(async () => await stack.disposeAsync())

  const configWith = (yaml: string) => folder.write('config.yml', `${SMALLEST}\n${yaml}`)

  describe('config', () => {
    it('check says OK', async () => {
      expect(await run(['config', 'check', '--config', await configWith('')])).toEqual({
        status: 0,
        stdout: 'OK\n',
        stderr: '',
      })
    })

    it.each([['config', 'check'], ['config', 'print'], ['serve'], ['proxy'], ['gc']])(
      '%s %s ends with status 2 and every fault at once, before anything starts',
      async (...args) => {
        const file = await configWith('http: { adrr: x, draintimeout: soon }\ntags: { trust: 5 }')
        const result = await run([...args, '--config', file], { GEO_REGISTRY__LOG__LEVEL: 'loud' })

        expect(result.status).toBe(2)
        expect(result.stdout).toBe('')
        expect(result.stderr.split('\n').map((line) => line.split(':')[0])).toEqual([
          'http.adrr',
          'log.level',
          'http.draintimeout',
          'tags.trust',
          '',
        ])
      },
    )

    it('check names a file that is not there', async () => {
      const result = await run(['config', 'check', '-c', '/nonexistent.yml'])

      expect(result).toEqual({
        status: 2,
        stdout: '',
        stderr: 'configuration: /nonexistent.yml does not exist\n',
      })
    })

    it('print shows where each value comes from, and no secret', async () => {
      const file = await configWith('http: { secret: hunter2 }')
      const result = await run(['config', 'print', '-c', file], { GEO_REGISTRY__SITE__NAME: 'tokyo' })

      expect(result.status).toBe(0)
      expect(result.stdout).toMatch(/^ {2}name: tokyo +# GEO_REGISTRY__SITE__NAME$/m)
      expect(result.stdout).toContain(`# ${file}:3`)
      expect(result.stdout).toMatch(/^ {2}minfree: 5% +# default$/m)
      expect(result.stdout).not.toContain('hunter2')
    })
  })

  describe('usage', () => {
    it.each([
      [['sevre'], "error: unknown command 'sevre'\n(Did you mean serve?)"],
      [['serve', '--confg', 'x'], "error: unknown option '--confg'\n(Did you mean --config?)"],
      [['serve', 'extra'], "error: too many arguments for 'serve'"],
      [['gc', '--config'], "error: option '-c, --config <file>' argument missing"],
      [[], 'Usage: geo-registry'],
      [['config'], 'Usage: geo-registry config'],
    ])('%j ends with status 2 and says what is wrong', async (args, words) => {
      const result = await run(args)

      expect(result.status).toBe(2)
      expect(result.stderr).toContain(words)
      expect(result.stdout).toBe('')
    })

    it('is explained on standard output, and the version told', async () => {
      const help = await run(['--help'])
      const version = await run(['--version'])

      expect(help.status).toBe(0)
      const commands = [
        'serve',
        'proxy',
        'relay',
        'config',
        'gc',
        'status',
        'explain',
        'resync',
        'undelete',
        'adopt',
      ]
      for (const word of [...commands, 'GEO_REGISTRY__', 'Exit status']) {
        expect(help.stdout).toContain(word)
      }
      expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    })
  })

  describe('gc', () => {
    const log = createLogger({ destination: { write: () => undefined } })
    const asked: object[] = []
    beforeEach(() => {
      asked.length = 0
    })

    /** A process with this token that answers, and the configuration of a command that asks it. */
    async function serving(ports: Partial<AdminPorts> = {}, token = 'correct horse'): Promise<string> {
      const listen = { host: '127.0.0.1', port: 0 }
      const collectGarbage = async (options: object) => {
        asked.push(options)
        return { removedBlobs: 1234, keptBlobs: 5 }
      }
      const all = { ready: async () => undefined, metrics: async () => '', collectGarbage, ...ports }
      const { address } = stack.use(await startAdmin(listen, all, { log, token: () => token }))
      return configWith(`http: { admin: { addr: "127.0.0.1:${address.port}", token: correct horse } }`)
    }

    it('has the running process collect, and prints its counts', async () => {
      expect(await run(['gc', '-c', await serving()])).toEqual({
        status: 0,
        stdout: 'removed blobs: 1,234\nkept blobs: 5\n',
        stderr: '',
      })
      expect(asked).toEqual([{ dryRun: false }])
    })

    it('only counts when told so, for a person or for a program', async () => {
      const file = await serving()

      expect((await run(['gc', '--dry-run', '-c', file])).stdout).toBe(
        'Nothing was removed; this is what would be.\nremoved blobs: 1,234\nkept blobs: 5\n',
      )
      expect((await run(['gc', '-n', '--json', '-c', file])).stdout).toBe(
        '{"removedBlobs":1234,"keptBlobs":5}\n',
      )
      expect(asked).toEqual([{ dryRun: true }, { dryRun: true }])
    })

    it('says what to do when nothing listens', async () => {
      const port = await freePort()
      const result = await run([
        'gc',
        '-c',
        await configWith(`http: { admin: { addr: "127.0.0.1:${port}" } }`),
      ])

      expect(result.status).toBe(1)
      expect(result.stderr).toContain(`nothing listens on http.admin.addr 127.0.0.1:${port}`)
      expect(result.stderr).toContain('geo-registry serve')
      expect(result.stderr).not.toContain('    at ')
    })

    it('says that the token is another one', async () => {
      const result = await run(['gc', '-c', await serving({}, 'rotated')])

      expect(result.status).toBe(1)
      expect(result.stderr).toContain('did not accept http.admin.token')
      expect(asked).toEqual([])
    })

    it('passes on that the collection failed', async () => {
      const collectGarbage = () => Promise.reject(new Error('disk'))
      const result = await run(['gc', '-c', await serving({ collectGarbage })])

      expect(result).toMatchObject({ status: 1, stdout: '' })
      expect(result.stderr).toBe('the running process answered 500: internal error: see the log\n')
    })

    it('takes no for an answer from whoever else listens there', async () => {
      const server = createServer((_, response) => response.end('<html>'))
      stack.defer(async () => void server.close())
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const address = server.address()
      const port = typeof address === 'object' ? address?.port : undefined
      const result = await run([
        'gc',
        '-c',
        await configWith(`http: { admin: { addr: "127.0.0.1:${port}" } }`),
      ])

      expect(result).toMatchObject({ status: 1, stdout: '' })
      expect(result.stderr).toBe('the running process answered 200: <html>\n')
    })

    it('finds a process that listens on every address, and cannot find one on any free port', async () => {
      const { address } = stack.use(
        await startAdmin(
          { host: undefined, port: 0 },
          { ready: async () => undefined, metrics: async () => '', collectGarbage: async () => ({}) },
          { log, token: () => 't' },
        ),
      )
      const file = await configWith(`http: { admin: { addr: ":${address.port}", token: t } }`)
      const nowhere = { GEO_REGISTRY__HTTP__ADMIN__ADDR: '127.0.0.1:0' }

      expect((await run(['gc', '-c', file])).status).toBe(0)
      expect((await run(['gc', '-c', file], nowhere)).status).toBe(2)
    })
  })
})
