/** The files a configuration names: whether they can be read and are what they should be, before anything starts. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'

export type FileKind = 'secret' | 'certificates' | 'private key' | 'key set'

/** What is wrong with a file, in words that finish "<setting>: …". */
export class FileFault extends Error {
  override readonly name = 'FileFault'
}

/** Nothing named here is longer; a device or a log given by mistake is not read to its end. */
const LIMIT_BYTES = 4 * 1024 * 1024
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

/** The first line of a file, so that an editor's closing newline is no part of the secret. Throws `FileFault`. */
export function readSecret(path: string): string {
  const secret = readText(path).replace(/\r?\n$/, '')
  if (secret === '') throw new FileFault(`${path} is empty; expected a secret`)
  if (/[\r\n]/.test(secret)) throw new FileFault(`${path} has several lines; expected a secret on one`)
  return secret
}

/** Throws `FileFault` when the file is not of its kind. */
export function checkFile(kind: FileKind, path: string): void {
  const check = {
    secret: readSecret,
    certificates: readCertificates,
    'private key': readPrivateKey,
    'key set': readKeySet,
  }[kind]
  check(path)
}

/** Throws `FileFault` when the key is not that of the first certificate. */
export function checkPair(certificatePath: string, keyPath: string): void {
  const [leaf] = readCertificates(certificatePath)
  if (leaf?.checkPrivateKey(readPrivateKey(keyPath))) return
  throw new FileFault(`${keyPath} is not the key of the first certificate in ${certificatePath}`)
}

/** Throws `FileFault` when the path is taken by something that is no folder. One that is missing is made later. */
export function checkFolder(path: string): void {
  const found = attempt(path, () => statSync(path, { throwIfNoEntry: false }))
  if (found && !found.isDirectory()) throw new FileFault(`${path} is not a folder`)
}

function readCertificates(path: string): X509Certificate[] {
  const blocks = readText(path).match(CERTIFICATE) ?? []
  if (blocks.length === 0) throw new FileFault(`${path} holds no certificate; expected PEM`)
  try {
    return blocks.map((block) => new X509Certificate(block))
  } catch (cause) {
    throw new FileFault(`${path} holds a certificate that cannot be read`, { cause })
  }
}

function readPrivateKey(path: string) {
  try {
    return createPrivateKey(readText(path))
  } catch (cause) {
    if (cause instanceof FileFault) throw cause
    throw new FileFault(`${path} holds no private key; expected PEM without a passphrase`, { cause })
  }
}

function readKeySet(path: string): void {
  const text = readText(path)
  try {
    const value: unknown = JSON.parse(text)
    const keys = typeof value === 'object' && value !== null && 'keys' in value ? value.keys : undefined
    if (Array.isArray(keys) && keys.length > 0) return
  } catch {
    // Not JSON is as little a key set as JSON without keys; one fault says so.
  }
  throw new FileFault(`${path} is no JSON Web Key Set; expected {"keys": […]}`)
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  ENOTDIR: 'does not exist: a part of its path is no folder',
  EACCES: 'may not be read by this user',
  EPERM: 'may not be read by this user',
  EISDIR: 'is a folder; expected a file',
}

/** Reads a whole file as text. Throws `FileFault`. */
export function readText(path: string): string {
  return attempt(path, () => {
    const found = statSync(path)
    if (found.isFile() && found.size > LIMIT_BYTES) throw new FileFault(`${path} is larger than 4 MiB`)
    return readFileSync(path, 'utf8')
  })
}

function attempt<T>(path: string, access: () => T): T {
  try {
    return access()
  } catch (cause) {
    if (cause instanceof FileFault) throw cause
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)
    throw new FileFault(`${path} ${REASONS[code] ?? `cannot be read (${code})`}`, { cause })
  }
}
