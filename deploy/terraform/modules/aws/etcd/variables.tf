variable "name" {
  description = "Name of the cluster, the same in every region; part of every resource's name."
  type        = string
  default     = "meridian"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.name))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first: load balancers take 32 in all."
  }
}

variable "region" {
  description = "The region as Meridian knows it: the --region of nodes, and regions[].name of the document."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.region))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first."
  }
}

variable "members" {
  description = "Members of the whole cluster's etcd and their private addresses, those of other regions too: one, three or five in all."
  type        = map(string)

  validation {
    condition     = contains([1, 3, 5], length(var.members))
    error_message = "An etcd has one, three or five members: an even number survives no more than the odd one below."
  }

  validation {
    condition     = alltrue([for address in values(var.members) : can(cidrhost("${address}/32", 0))])
    error_message = "Each member has an IPv4 address."
  }
}

variable "here" {
  description = "Which of the members stand in this region, and in which subnet: number of the subnet by the member's name."
  type        = map(number)

  validation {
    condition     = length(setsubtract(keys(var.here), keys(var.members))) == 0
    error_message = "Members that stand here must be among members."
  }
}

variable "authority_member" {
  description = "The member whose machine is the cluster's authority too; empty if none of this region is."
  type        = string
  default     = ""
}

variable "subnet_ids" {
  description = "Subnets of module network."
  type        = list(string)
}

variable "security_group_id" {
  description = "Group of module network: etcd_group_id."
  type        = string
}

variable "instance_type" {
  description = "Machine of a member: 2 GB of memory are plenty."
  type        = string
  default     = "t3.small"
}

variable "disk_gb" {
  description = "Disk of a member: etcd's quota is 2 GiB, twice that while it is defragmented."
  type        = number
  default     = 16

  validation {
    condition     = var.disk_gb >= 12 && var.disk_gb <= 1024
    error_message = "12 to 1024 GB."
  }
}

variable "bundle_url" {
  description = "Where machines fetch the bundle that scripts/bundle made: an HTTPS address that they reach."
  type        = string

  validation {
    condition     = can(regex("^https://[^[:space:]']+$", var.bundle_url))
    error_message = "Write an https:// address."
  }
}

variable "bundle_sha256" {
  description = "SHA-256 of the bundle, as scripts/bundle printed it."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.bundle_sha256))
    error_message = "Write 64 hexadecimal digits, in lower case."
  }
}

variable "authority" {
  description = "Where machines join and renew certificates: https://HOST:9902."
  type        = string

  validation {
    condition     = can(regex("^https://[0-9A-Za-z.:-]+:[0-9]+$", var.authority))
    error_message = "Write https://HOST:PORT."
  }
}

variable "join_token" {
  description = "Token of meridian pki token, good for as many machines as join. It is in user-data and state: let it be good for an hour, and for this region's names and network only."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^mrd1\\.[A-Za-z0-9_-]{43}\\.[0-9a-f]{64}$", var.join_token))
    error_message = "This is no token: make one with meridian pki token."
  }
}

variable "ami_id" {
  description = "Image: Debian 12 or Ubuntu 24.04, or later. Empty: the newest Debian 12, for x86."
  type        = string
  default     = ""
}

variable "key_name" {
  description = "SSH key pair of operators; empty for none."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}

